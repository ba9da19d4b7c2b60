// The inner loops that are worth SIMD, behind one table chosen at run time. Each instruction set is one compilation of
// kernels_impl.hpp; the scalar one defines the result and the others must equal it bit for bit.
#pragma once
#include "networks/sample.hpp"
#include <cstddef>
#include <cstdint>

namespace dlpr {

// Fixed tables of the weights file (docs/format section 4).
struct Tables {
  const int16_t* log = nullptr;       // [4209]
  const int32_t* logistic = nullptr;  // [768]
  int32_t scale[321] = {0};           // mant | shift << 16
  int32_t exp[512] = {0};
};

// What follows a layer's sums, by output c: clamp((sat16(acc >> shift) * mult + add) >> 12, -limit, limit), then leaky.
// Roundings are part of the constants: start = acc_bias + (1 << shift >> 1), add = 2048 + 4096 bias (docs/format 4).
struct Rescale {
  const int32_t *start, *shift, *mult, *add;
  int limit;
  bool leaky;
};
// Rows of a layer: row i has `parts` parts of 2 * pairs values, part k at a + i stride + k part_stride.
struct LayerInput {
  const int16_t* a;
  int stride, n, parts;
  ptrdiff_t part_stride;
  int pairs;
};

constexpr int kK = 5;  // components
enum OutputRow { kMean = 0, kLogScale = 15, kMeanCoef = 30, kScaleCoef = 45, kLogit = 60 };
constexpr int kNetOutputs = 75, kOutPadded = 80, kOutMax = 8191;
constexpr int kStepPixels =
    128;  // most pixels of one step: patches have at most 256 columns, every second one is in it
constexpr int kStep = kStepPixels + 16;  // so much apart are columns of what a step's pixels have

// Samples of one step that are known, by row of the network's outputs; [kStep] each.
struct StepKnown {
  const int16_t* outputs;                    // [80][kStep]
  const int32_t* weight;                     // [15][kStep]
  const int32_t *e[2], *g[2];                // residuals and logs of channels 0 and 1
  const int32_t* pred;                       // of the channel
  const int32_t *symbol, *lo, *hi, *bound0;  // of the channel: symbol, its range; the bound below symbol 0 (1/64 level)
  int bound_step;
};

// One pixel to decode, and where.
struct PixelTask {
  int16_t *sample, *residual;
  const WindowPredictor* predictor;  // [3]
  int32_t prediction[3];             // sums of the linear stage without the pixel's own samples
  int row, lane;
  uint8_t anchor[3];
};
struct StepUnknown {
  const Tables* tables;
  const int16_t* out;     // [row][80]
  const int32_t* weight;  // [15][kStep]
  const PixelTask* pixels;
  int n;
  LaneDecoder* lanes;
  int channels, tau, m;
  uint32_t inverse;  // Grid
};

struct Kernels {
  const char* name;
  // upper triangle of acc (72 x 72) += rows^T rows for 8 rows of 72 values, |value| <= 256
  void (*gram8)(const int16_t* rows, int32_t* acc);
  // acc[i][c] = start[i][c] + a[i] . w, rows of a `a_stride` apart; weights packed [pairs][cout][2]; cout a multiple of
  // 16
  void (*dense)(const int16_t* a, int a_stride, int n, const int16_t* w, int pairs, int cout,
                const int32_t* const* start, int32_t* acc);
  // out[i] = rescaled sums, plus skip[i] (same limit) unless null; rows of out and skip are cout apart
  void (*layer)(const LayerInput& in, const int16_t* w, int cout, const Rescale& q, const int16_t* skip, int16_t* out);
  // h[i][c] = rescaled acc[i][c], t = leaky(h)
  void (*rescale)(const int32_t* acc, int n, int cout, const Rescale& q, int16_t* h, int16_t* t);
  // sums[c] of the linear stage at p for predictors q[0..2], without the pixel's own samples
  void (*windows)(const int16_t* p, int stride, const WindowPredictor* q, int32_t* sums);
  // f[0..131] and base[0..3] of the pixel with sample p and residuals e
  void (*causal)(const int16_t* p, int stride, const int16_t* e, int e_stride, int16_t* base, int16_t* f);
  // the 15 features of x~
  void (*around)(const int16_t* here, const int16_t* below, const int16_t* base, int16_t* f);
  // columns[j][i] = out[i][first + j], i < n, j < count (a multiple of 8); out has rows up to the next multiple of 8
  void (*transpose)(const int16_t* out, int n, int first, int count, int16_t* columns);
  // weight[5 c + k][i] of the components for outputs out[i], rows as above
  void (*weights)(const Tables& t, const int16_t* out, int n, int32_t* weight);
  // start and width of the intervals of channel c's symbols
  void (*intervals)(const Tables& t, const StepKnown& s, int c, int n, int32_t* start, int32_t* freq);
  // samples and residuals of a step's pixels from their lanes; one step or two of different patches
  void (*decode_step)(const StepUnknown* s, int count);
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
