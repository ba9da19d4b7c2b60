// Mixture of logistics to cumulative frequencies (docs/format section 9).
#pragma once
#include "networks/geometry.hpp"
#include "networks/kernels.hpp"
#include <cstdint>

namespace dlpr {

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
  GridRange range() const { return {lo, hi, 64 * (anchor - tau) - 32, 64 * step}; }
};

class SymbolModel {
 public:
  SymbolModel(const Kernels& kn, const Tables& t, const Mixture& m, const Grid& g)
      : kn_(kn), t_(t), m_(m), r_(g.range()) {}

  void cumulative8(int q0, int stride, uint32_t f[8]) const { kn_.cumulative8(t_.logistic, m_, r_, q0, stride, f); }
  void interval(int q, uint32_t& start, uint32_t& freq) const {
    uint32_t f[8];
    cumulative8(q, 1, f);
    start = f[0], freq = f[1] - f[0];
  }
  // The symbol whose interval holds slot; `guess` is where the search begins.
  int find(uint32_t slot, int guess, uint32_t& start, uint32_t& freq) const {
    int a = r_.lo, b = r_.hi + 1;  // F(a) <= slot < F(b)
    uint32_t fa = 0, fb = 65536, f[8];
    int q0 = clampi(guess - 3, a, b), stride = 1;
    while (true) {
      cumulative8(q0, stride, f);
      for (int i = 0; i < 8; ++i) {
        int q = q0 + i * stride;
        if (q <= a || q >= b) continue;
        if (f[i] <= slot) a = q, fa = f[i];
        else {
          b = q, fb = f[i];
          break;
        }
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
  GridRange r_;
};

}  // namespace dlpr
