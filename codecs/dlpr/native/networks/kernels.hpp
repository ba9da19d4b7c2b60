// The inner loops that are worth SIMD, behind one table chosen at run time. Each instruction set is one compilation of
// kernels_impl.hpp; the scalar one defines the result and the others must equal it bit for bit.
#pragma once
#include <cstdint>

namespace dlpr {

// Fixed tables of the weights file (docs/format section 4).
struct Tables {
  const int16_t* log = nullptr;         // [4209]
  const uint32_t* logistic = nullptr;   // [768]
  const int32_t* scale_mant = nullptr;  // [321]
  const int32_t* scale_shift = nullptr;
  int32_t exp[512] = {0};
};

// Parameters of one sample's distribution; slots 5 to 7 let vector code read and write whole registers.
struct Mixture {
  int32_t loc[8], mant[8], shift[8], weight[8];
};

// Symbols lo..hi of one sample; the bound below symbol q is bound0 + q bound_step (1/64 level).
struct GridRange {
  int lo, hi, bound0, bound_step;
};

constexpr int kK = 5;  // components
enum OutputRow { kMean = 0, kLogScale = 15, kMeanCoef = 30, kScaleCoef = 45, kLogit = 60 };
constexpr int kNetOutputs = 75, kOutPadded = 80;

struct Kernels {
  const char* name;
  // upper triangle of acc (72 x 72) += rows^T rows for 8 rows of 72 values, |value| <= 256
  void (*gram8)(const int16_t* rows, int32_t* acc);
  // acc[n][cout] = init[cout] + a[n][2*pairs] . w; weights packed [pairs][cout][2]; cout a multiple of 16, a has row
  // stride a_stride
  void (*dense)(const int16_t* a, int a_stride, int n, const int16_t* w, int pairs, int cout, const int32_t* init,
                int32_t* acc);
  // as dense, but added to acc
  void (*dense_add)(const int16_t* a, int a_stride, int n, const int16_t* w, int pairs, int cout, int32_t* acc);
  // out[i][c] = clamp((sat16(round_shift(acc, shift[c])) * mult[c] + 2048 >> 12) + bias[c], -limit, limit), row by row
  void (*requant)(const int32_t* acc, int n, int cout, const int32_t* shift, const int16_t* mult, const int16_t* bias,
                  int limit, int16_t* out);
  // out = v < 0 ? v >> 3 : v, over count values (count a multiple of 16)
  void (*leaky)(const int16_t* in, int count, int16_t* out);
  // t = clamp(t + h, -2047, 2047), over count values (count a multiple of 16)
  void (*add_clamp)(int16_t* t, const int16_t* h, int count);
  // out[i] = 4 (in[i] - base[i % 3]), i < count
  void (*relative)(const int16_t* in, const int16_t* base, int count, int16_t* out);
  // sum of samples times coefficients over four rows of the window that ends at p (kSpans loads of 16, see linear.hpp)
  int32_t (*window)(const int16_t* p, int stride, const int16_t* coef);
  // parameters of one sample's distribution from the network's outputs
  void (*mixture)(const Tables& t, const int16_t* o, int c, int pred, const int* e, const int* g, Mixture& m);
  // F(q0 + i stride), i = 0..7
  void (*cumulative8)(const uint32_t* logistic, const Mixture& m, const GridRange& r, int q0, int stride, uint32_t* f);
};

const Kernels& kernels();                        // the best this machine runs, or what DLPR_SIMD names
const Kernels* kernels_named(const char* name);  // null if this machine cannot run it

namespace scalar {
extern const Kernels table;
}
#if defined(__x86_64__)
namespace avx2 {
extern const Kernels table;
}
namespace avx512 {
extern const Kernels table;
}
#endif

}  // namespace dlpr
