// Mixture of logistics to cumulative frequencies (docs/format section 9).
#pragma once
#include "geometry.hpp"
#include "kernels.hpp"
#include <cstdint>

namespace dlpr {

constexpr int kK = 5;  // components
enum OutputRow { kMean = 0, kLogScale = 15, kMeanCoef = 30, kScaleCoef = 45, kLogit = 60 };
constexpr int kNetOutputs = 75;

struct Tables {
  const int16_t* log = nullptr;        // [4209]
  const uint32_t* logistic = nullptr;  // [768]
  const int32_t* scale_mant = nullptr;  // [321]
  const int32_t* scale_shift = nullptr;
  const uint16_t* exp = nullptr;  // [512]
};

// Parameters of one sample's distribution; 8 slots so that vector code may read past component 4.
struct Mixture {
  int32_t loc[8], mant[8], shift[8], weight[8];
};

// o: the network's 75 outputs; e, g: residual (1/16) and log of the channels before c.
inline void make_mixture(const Tables& t, const int16_t* o, int c, int pred, const int e[3], const int g[3], Mixture& m) {
  int top = 0;
  const int16_t* logit = o + kLogit + 5 * c;
  for (int k = 1; k < kK; ++k)
    if (logit[k] > logit[top]) top = k;
  uint32_t sum = 0;
  uint32_t w[kK];
  for (int k = 0; k < kK; ++k) {
    int32_t loc = 4 * pred + o[kMean + 5 * c + k], ls = o[kLogScale + 5 * c + k];
    if (c == 1) {
      loc += (o[kMeanCoef + k] * e[0]) >> 6, ls += (o[kScaleCoef + k] * g[0]) >> 6;
    } else if (c == 2) {
      loc += ((o[kMeanCoef + 5 + k] * e[0]) >> 6) + ((o[kMeanCoef + 10 + k] * e[1]) >> 6);
      ls += ((o[kScaleCoef + 5 + k] * g[0]) >> 6) + ((o[kScaleCoef + 10 + k] * g[1]) >> 6);
    }
    m.loc[k] = clampi(loc, -16384, 32767);
    int i = clampi((ls + 1028) >> 3, 0, 320);
    m.mant[k] = t.scale_mant[i], m.shift[k] = t.scale_shift[i];
    int d = (logit[top] - logit[k]) >> 3;
    w[k] = t.exp[d > 511 ? 511 : d];
    sum += w[k];
  }
  const uint32_t r = (1u << 30) / sum;
  int32_t left = 32768;
  for (int k = 0; k < kK; ++k) m.weight[k] = int32_t((w[k] * r) >> 15), left -= m.weight[k];
  m.weight[top] += left;
}

// The symbols of one sample: q stands for anchor + q step.
struct Grid {
  int anchor, tau, step, qmin, qmax, lo, hi, centre;
  Grid(int anchor_, int tau_, int m, int pred) : anchor(anchor_), tau(tau_), step(2 * tau_ + 1) {
    qmin = -((anchor + tau) / step), qmax = (255 - anchor + tau) / step;
    centre = nearest(clampi((pred + 8) >> 4, 0, 255));
    lo = centre - m > qmin ? centre - m : qmin, hi = centre + m < qmax ? centre + m : qmax;
  }
  int nearest(int v) const {
    int r = v - anchor;
    return r < 0 ? -((-r + tau) / step) : (r + tau) / step;
  }
  int value(int q) const { return clampi(anchor + q * step, 0, 255); }
  int bound(int q) const { return 64 * (anchor + q * step - tau) - 32; }
};

class SymbolModel {
 public:
  SymbolModel(const Kernels& kn, const Tables& t, const Mixture& m, const Grid& g) : kn_(kn), t_(t), m_(m), g_(g), n_(uint32_t(g.hi - g.lo + 1)) {}

  // F at q0, q0 + stride, ... (8 values)
  void cumulative8(int q0, int stride, uint32_t f[8]) const {
    int32_t b[8];
    uint32_t s[8];
    for (int i = 0; i < 8; ++i) b[i] = g_.bound(clampi(q0 + i * stride, g_.lo, g_.hi + 1));
    kn_.cdf8(b, m_.loc, m_.mant, m_.shift, m_.weight, t_.logistic, s);
    for (int i = 0; i < 8; ++i) {
      int q = q0 + i * stride;
      f[i] = q <= g_.lo ? 0 : q > g_.hi ? 65536 : (((s[i] >> 15) * (65536 - n_)) >> 16) + uint32_t(q - g_.lo);
    }
  }
  void interval(int q, uint32_t& start, uint32_t& freq) const {
    uint32_t f[8];
    cumulative8(q, 1, f);
    start = f[0], freq = f[1] - f[0];
  }
  // The symbol whose interval holds slot; `guess` is where the search begins.
  int find(uint32_t slot, int guess, uint32_t& start, uint32_t& freq) const {
    int a = g_.lo, b = g_.hi + 1;  // F(a) <= slot < F(b)
    uint32_t fa = 0, fb = 65536, f[8];
    int q0 = clampi(guess - 3, a, b), stride = 1;
    while (true) {
      cumulative8(q0, stride, f);
      for (int i = 0; i < 8; ++i) {
        int q = q0 + i * stride;
        if (q <= a || q >= b) continue;
        if (f[i] <= slot) a = q, fa = f[i];
        else { b = q, fb = f[i]; break; }
      }
      if (b - a == 1) break;
      stride = (b - a + 8) / 9;
      q0 = a + stride;
    }
    start = fa, freq = fb - fa;
    return a;
  }

 private:
  const Kernels& kn_;
  const Tables& t_;
  const Mixture& m_;
  const Grid& g_;
  uint32_t n_;
};

}  // namespace dlpr
