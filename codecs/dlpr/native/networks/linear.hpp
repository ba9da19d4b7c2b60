// The content-adaptive linear stage (docs/format section 7): a least-squares predictor that the encoder solves for each
// chunk and pixel phase, quantises and stores; evaluated in integers.
#pragma once
#include "networks/geometry.hpp"
#include "networks/kernels.hpp"
#include <cmath>
#include <cstring>
#include <vector>

namespace dlpr {

constexpr int kRegressors = kTapValues + 2;  // of channel c: c channels of the pixel itself, then taps; bias apart
constexpr int kMaxClasses = 4;

// One predictor: coefficients with `frac` fractional bits, bias with 3.
struct Predictor {
  int count = 0;  // taps used, 0..66
  int32_t bias8 = 0;
  int16_t coef[kRegressors] = {0};
};
struct LinearStage {
  int classes = 1;  // 1, 2 (column parity) or 4 (row and column parity)
  int frac = 10;
  Predictor p[kMaxClasses][3];
  int phase(int y, int x) const { return classes == 1 ? 0 : classes == 2 ? (x & 1) : ((y & 1) * 2 + (x & 1)); }
};

struct WindowStage {
  WindowPredictor p[kMaxClasses][3];
  void set(const LinearStage& ls) {
    for (int k = 0; k < ls.classes; ++k)
      for (int c = 0; c < 3; ++c) {
        const Predictor& q = ls.p[k][c];
        WindowPredictor& w = p[k][c];
        w = WindowPredictor();
        int32_t sum = 0;
        for (int i = 0; i < c; ++i) w.previous[i] = q.coef[i], sum += q.coef[i];
        for (int i = 0; i < q.count; ++i) {
          constexpr int kRowStart[4] = {80, 64, 32, 0};  // of rows 0, -1, -2, -3
          const int t = i / 3, ch = kTapChannel[c][i % 3];
          w.window[kRowStart[-kTapDy[t]] + (kTapDx[t] + 3) * 3 + ch] = q.coef[c + i], sum += q.coef[c + i];
        }
        w.shift = ls.frac - 4;
        w.constant = q.bias8 * (1 << (ls.frac - 3)) - 128 * sum + (w.shift ? 1 << (w.shift - 1) : 0);
      }
  }
};

// Predictions in 1/16 level of a pixel whose samples are known.
inline void predict(const Kernels& kn, const WindowPredictor* q, const PatchSamples& s, const int16_t* p, int pred[3]) {
  int32_t sums[3];
  kn.windows(p, s.stride, q, sums);
  for (int c = 0; c < 3; ++c) {
    for (int k = 0; k < c; ++k) sums[c] += q[c].previous[k] * p[k];
    pred[c] = finish_prediction(sums[c], q[c].shift);
  }
}

// ---- encoder side: moments, solution, choice of size (free of the format's promise, but deterministic) ----

constexpr int kMomentCols = 72;  // 66 taps in the order of kFeatPlace, pixel's channels 0 1 2, constant 1, 2 unused
struct Moments {
  int64_t n[kMaxClasses] = {0, 0, 0, 0};
  std::vector<int64_t> g = std::vector<int64_t>(size_t(kMaxClasses) * kMomentCols * kMomentCols, 0);
  int64_t* of(int cls) { return g.data() + size_t(cls) * kMomentCols * kMomentCols; }
};

// Add a patch (all of its samples known) to the moments of the four parity classes. Half of the rows cost 1 % of size.
inline void add_moments(Moments& m, const PatchSamples& s, const Kernels& k) {
  constexpr int kBatch = 8;
  std::vector<int16_t> rows(kBatch * kMomentCols), zero(kMomentCols, 0);
  std::vector<int32_t> acc(size_t(kMaxClasses) * kMomentCols * kMomentCols, 0);
  auto flush = [&]() {
    for (size_t i = 0; i < acc.size(); ++i) m.g[i] += acc[i];
    std::memset(acc.data(), 0, acc.size() * sizeof(int32_t));
  };
  int since = 0;
  for (int y = 0; y < s.h; ++y) {
    for (int par = 0; par < 2 && par < s.w; ++par) {
      int cls = (y & 1) * 2 + par, fill = 0;
      for (int x = par; x < s.w; x += 2) {
        int16_t* z = rows.data() + fill * kMomentCols;
        const int16_t* p = s.at(y, x);
        const int16_t* from = p - 3 * s.stride - 9;
        for (int i = 0; i < 21; ++i) z[i] = int16_t(from[i] - 128), z[21 + i] = int16_t(from[s.stride + i] - 128);
        for (int i = 0; i < 15; ++i) z[42 + i] = int16_t(from[2 * s.stride + i] - 128);
        for (int i = 0; i < 9; ++i) z[57 + i] = int16_t(from[3 * s.stride + i] - 128);
        for (int c = 0; c < 3; ++c) z[66 + c] = int16_t(p[c] - 128);
        z[69] = 1, z[70] = 0, z[71] = 0;
        m.n[cls]++;
        if (++fill == kBatch || x + 2 >= s.w) {
          for (; fill < kBatch; ++fill)
            std::memcpy(rows.data() + fill * kMomentCols, zero.data(), sizeof(int16_t) * kMomentCols);
          k.gram8(rows.data(), acc.data() + size_t(cls) * kMomentCols * kMomentCols);
          fill = 0, since += kBatch;
        }
      }
    }
    if (since > 60000) flush(), since = 0;
  }
  flush();
}

// column of the moments for regressor i of channel c (bias = kBiasCol)
constexpr int kBiasCol = 69;
inline int moment_col(int c, int i) {
  if (i < c) return kTapValues + i;
  int j = i - c;
  return kFeatPlace.at[kFeatTaps + j / 3 * 3 + kTapChannel[c][j % 3]];
}

struct FitOptions {
  double coef_bits = 6.0;   // price of one coefficient when the size is chosen
  double floor_var = 0.02;  // residual variance below which nothing is gained
  double ridge = 1e-4;
  int max_taps = kTapValues;
  int max_classes = kMaxClasses;  // most pixel phases with predictors of their own: 1, 2 or 4
  int context = 3;                // only taps of M_7^context; what is masked gets the coefficient 0
  bool allows(int tap) const { return (context - 1) * kTapDy[tap] + kTapDx[tap] < 0; }
};

// Solve one channel of one class (symmetric moments in g, n pixels) with the number of taps that costs least.
// Returns the estimated cost in bits and writes the quantised predictor.
inline double fit_predictor(const double* g, double n, int c, int frac, const FitOptions& o, Predictor& out) {
  // Cholesky of [bias, own channels, taps...] with the target as last row: L[target][i]^2 is what regressor i explains.
  const int N = 1 + c + o.max_taps, target = kTapValues + c;
  std::vector<int> col(N);
  col[0] = kBiasCol;
  for (int i = 0; i < c + o.max_taps; ++i) col[1 + i] = moment_col(c, i);
  std::vector<double> L(size_t(N) * N, 0.0), z(N, 0.0);
  double rss = g[target * kMomentCols + target], best_cost = 1e300;
  int best = 0;
  std::vector<char> dead(N, 0);
  for (int j = 0; j < N; ++j) {
    const double* gj = g + col[j] * kMomentCols;
    double* Lj = &L[size_t(j) * N];
    for (int k = 0; k < j; ++k) {
      const double* Lk = &L[size_t(k) * N];
      double v = gj[col[k]];
      for (int i = 0; i < k; ++i) v -= Lj[i] * Lk[i];
      Lj[k] = dead[k] ? 0.0 : v / Lk[k];
    }
    double ridge = j ? o.ridge * n + 1.0 : 1e-6, d = gj[col[j]] + ridge, zj = gj[target];
    for (int i = 0; i < j; ++i) d -= Lj[i] * Lj[i], zj -= Lj[i] * z[i];
    const bool masked = j > c && !o.allows((j - 1 - c) / kChannels);
    if (masked || d <= 1e-9 * (gj[col[j]] + ridge)) dead[j] = 1, Lj[j] = 1.0, z[j] = 0.0;
    else Lj[j] = std::sqrt(d), z[j] = zj / Lj[j];
    rss -= z[j] * z[j];
    int taps = j - c;
    if (taps >= 0) {
      double var = (rss > 0 ? rss : 0) / (n > 0 ? n : 1);
      double cost = 0.5 * n * std::log2(var + o.floor_var) + o.coef_bits * (taps + c) + 12;
      if (cost < best_cost - 0.25) best_cost = cost, best = taps;
    }
  }
  const int M = 1 + c + best;
  std::vector<double> b(M);
  // Quantise from the last regressor to the first; what rounding changes is passed on to those still free.
  std::vector<double> zz(z.begin(), z.begin() + M);
  const double scale = double(1 << frac);
  out = Predictor();
  out.count = best;
  for (int i = M - 1; i >= 0; --i) {
    double v = dead[i] ? 0.0 : zz[i] / L[size_t(i) * N + i], q;
    if (i == 0) {
      q = std::nearbyint(v * 8.0);
      q = q < -8191 ? -8191 : q > 8191 ? 8191 : q;
      out.bias8 = int32_t(q), b[i] = q / 8.0;
    } else {
      q = std::nearbyint(v * scale);
      q = q < -8191 ? -8191 : q > 8191 ? 8191 : q;
      out.coef[i - 1] = int16_t(q), b[i] = q / scale;
    }
    for (int k = 0; k < i; ++k) zz[k] -= L[size_t(i) * N + k] * b[i];
  }
  return best_cost;
}

// Choose classes and predictors for a chunk from its moments.
inline LinearStage fit_linear(Moments& m, int frac, const FitOptions& o) {
  LinearStage best;
  double best_cost = 1e300;
  constexpr int G = kMomentCols * kMomentCols;
  for (int classes : {1, 2, 4}) {
    if (classes > o.max_classes) break;
    LinearStage ls;
    ls.classes = classes, ls.frac = frac;
    double cost = classes * 8.0;
    bool ok = true;
    for (int k = 0; k < classes && ok; ++k) {
      std::vector<double> g(G, 0.0);
      double n = 0;
      for (int par = 0; par < 4; ++par) {
        int cls = classes == 1 ? 0 : classes == 2 ? (par & 1) : par;
        if (cls != k) continue;
        const int64_t* src = m.of(par);
        n += double(m.n[par]);
        for (int i = 0; i < kMomentCols; ++i)
          for (int j = i; j < kMomentCols; ++j) g[i * kMomentCols + j] += double(src[i * kMomentCols + j]);
      }
      for (int i = 0; i < kMomentCols; ++i)
        for (int j = 0; j < i; ++j) g[i * kMomentCols + j] = g[j * kMomentCols + i];
      if (n == 0) ok = classes == 1;
      for (int c = 0; c < 3; ++c) cost += fit_predictor(g.data(), n, c, frac, o, ls.p[k][c]);
    }
    if (ok && cost < best_cost) best_cost = cost, best = ls;
  }
  return best;
}

}  // namespace dlpr
