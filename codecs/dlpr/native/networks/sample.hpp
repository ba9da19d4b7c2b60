// Arithmetic of one sample, for kernels of every instruction set: always inlined.
#pragma once
#include "networks/lane_decoder.hpp"
#include <cstdint>

namespace dlpr {

#define DLPR_INLINE inline __attribute__((always_inline))

constexpr int kActMax = 2047;                    // every activation is in -2047..2047
constexpr int kPredMin = -128, kPredMax = 4208;  // predictions are in 1/16 level

DLPR_INLINE int clampi(int v, int lo, int hi) { return v < lo ? lo : (v > hi ? hi : v); }

// The residual of one sample as the network sees it: e clamped, and 64 (log2(1+|e|) - 1). Returns the log as the
// mixture sees it.
DLPR_INLINE int put_residual(int16_t* slot, int c, int e16, const int16_t* log_table) {
  const int a = e16 < 0 ? -e16 : e16, g = log_table[a > kPredMax ? kPredMax : a];
  slot[c] = int16_t(clampi(e16, -kActMax, kActMax));
  slot[3 + c] = int16_t(g - 64);
  return g;
}

// A predictor laid out for the kernels: coefficients in the order of the samples in memory, constants in one sum.
struct WindowPredictor {
  int shift = 4;
  int32_t constant = 0;
  int16_t previous[3] = {0, 0, 0};
  int16_t window[96] = {0};
};

// Prediction in 1/16 level from a predictor's sum.
DLPR_INLINE int finish_prediction(int32_t sum, int shift) {
  return clampi((sum >> shift) + 128 * 16, kPredMin, kPredMax);
}

// The symbols of one sample: q stands for anchor + q step.
struct Grid {
  int anchor, tau, step;
  uint32_t inverse;  // v / step = v inverse >> 22, v <= 510
  int qmin, qmax, lo, hi, centre;

  static DLPR_INLINE uint32_t inverse_of(int tau) { return (1u << 22) / uint32_t(2 * tau + 1) + 1; }
  DLPR_INLINE Grid(int anchor_, int tau_, uint32_t inverse_, int m, int pred)
      : anchor(anchor_), tau(tau_), step(2 * tau_ + 1), inverse(inverse_) {
    qmin = -steps(anchor + tau), qmax = steps(255 - anchor + tau);
    centre = nearest(clampi((pred + 8) >> 4, 0, 255));
    lo = centre - m > qmin ? centre - m : qmin, hi = centre + m < qmax ? centre + m : qmax;
  }
  DLPR_INLINE int steps(int v) const { return int(uint32_t(v) * inverse >> 22); }
  DLPR_INLINE int nearest(int v) const {
    const int r = v - anchor;
    return r < 0 ? -steps(-r + tau) : steps(r + tau);
  }
  DLPR_INLINE int value(int q) const { return clampi(anchor + q * step, 0, 255); }
};

#undef DLPR_INLINE

}  // namespace dlpr
