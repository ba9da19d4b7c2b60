// The inner loops that are worth SIMD, behind one table chosen at run time. Each instruction set is one compilation of
// kernels_impl.hpp; the scalar one defines the result and the others must equal it bit for bit.
#pragma once
#include <cstdint>

namespace dlpr {

struct MixtureTables;

struct Kernels {
  const char* name;
  // upper triangle of acc (72 x 72) += rows^T rows for 8 rows of 72 values, |value| <= 256
  void (*gram8)(const int16_t* rows, int32_t* acc);
  // acc[n][cout] = a[n][2*pairs] . w; weights packed [pairs][cout][2]; cout a multiple of 16, a has row stride a_stride
  void (*dense)(const int16_t* a, int a_stride, int n, const int16_t* w, int pairs, int cout, int32_t* acc);
  // as dense, but added to acc
  void (*dense_add)(const int16_t* a, int a_stride, int n, const int16_t* w, int pairs, int cout, int32_t* acc);
  // out[i][c] = clamp((sat16(round_shift(acc, shift[c])) * mult[c] + 2048 >> 12) + bias[c], -limit, limit), row by row
  void (*requant)(const int32_t* acc, int n, int cout, const int32_t* shift, const int16_t* mult, const int16_t* bias, int limit, int16_t* out);
  // out = v < 0 ? v >> 3 : v, over count values (count a multiple of 16)
  void (*leaky)(const int16_t* in, int count, int16_t* out);
  // sum of samples times coefficients over four rows of the window that ends at p (kSpans loads of 16, see linear.hpp)
  int32_t (*window)(const int16_t* p, int stride, const int16_t* coef);
  // S_i = sum_k w[k] * L(bound[i] - loc[k]) for 8 bounds (docs/format section 9); 5 components padded to 8
  void (*cdf8)(const int32_t* bound, const int32_t* loc, const int32_t* mant, const int32_t* shift, const int32_t* weight, const uint32_t* logistic, uint32_t* out);
};

const Kernels& kernels();                       // the best this machine runs, or what DLPR_SIMD names
const Kernels* kernels_named(const char* name);  // null if this machine cannot run it

namespace scalar { extern const Kernels table; }
#if defined(__x86_64__)
namespace avx2 { extern const Kernels table; }
namespace avx512 { extern const Kernels table; }
#endif

}  // namespace dlpr
