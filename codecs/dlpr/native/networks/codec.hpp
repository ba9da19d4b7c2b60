// One chunk: patches, steps and lanes (docs/format sections 6 to 11), encoder and decoder over the same walk.
#pragma once
#include "networks/lic.hpp"
#include "networks/linear_part.hpp"
#include <algorithm>

namespace dlpr {

struct ChunkOptions {
  int H = 0, W = 0, channels = 3, tau = 0;
  bool lossy = false, anchor_lossy = false;
  int patch_exp = 8, lane_exp = 0, bank = 0, m = 255;
  uint8_t base[3] = {0, 0, 0};
};

// Buffers of one step of one patch; rows are grouped by parity of y so that one weight matrix serves a group.
struct StepBuffers {
  int n = 0;
  std::vector<int> ys;      // y of each row of the matrices
  std::vector<int> row_of;  // row of the i-th pixel in coding order
  std::vector<int16_t> features, scratch, out;
  std::vector<int32_t> acc, acc_first;
  std::vector<int> pred0;
  explicit StepBuffers(int max_pixels, int padded)
      : ys(max_pixels),
        row_of(max_pixels),
        features(size_t(max_pixels) * kFeatures + 32),
        scratch(size_t(max_pixels) * padded * 2 + 64),
        out(size_t(max_pixels) * kOutPadded + 32),
        acc(size_t(max_pixels) * kOutPadded),
        acc_first(size_t(max_pixels) * padded),
        pred0(max_pixels) {}
};

class PatchCoder {
 public:
  PatchCoder(const Kernels& kn, const Model& m, const ChunkOptions& o, const LinearStage& ls, const WindowStage& ws,
             const Lossy& lossy, int y0, int x0)
      : kn_(kn),
        m_(m),
        o_(o),
        ls_(ls),
        ws_(ws),
        lossy_(lossy),
        net_(m.net(o.tau)),
        y0_(y0),
        x0_(x0),
        h(std::min(1 << o.patch_exp, o.H - y0)),
        w(std::min(1 << o.patch_exp, o.W - x0)),
        samples(h, w, o.base),
        residuals(h, w) {}

  int steps() const { return (w - 1) + 2 * (h - 1) + 1; }
  static int max_pixels(const ChunkOptions& o) { return 1 << (o.patch_exp); }

  // Pixels of step s; features of each; first-layer sums.
  void first_layer(int s, StepBuffers& b) const {
    int ya = s - (w - 1) > 0 ? (s - (w - 1) + 1) / 2 : 0, yb = std::min(h - 1, s / 2);
    b.n = yb - ya + 1;
    if (b.n <= 0) {
      b.n = 0;
      return;
    }
    int even = 0, row = 0;
    for (int pass = 0; pass < 2; ++pass)
      for (int y = ya; y <= yb; ++y)
        if (((y0_ + y) & 1) == pass) b.ys[row] = y, b.row_of[y - ya] = row++, even += pass == 0;
    const int xpar = (x0_ + s) & 1;  // x = s - 2y keeps its parity
    for (int r = 0; r < b.n; ++r) gather(b.ys[r], s - 2 * b.ys[r], &b.features[size_t(r) * kFeatures], b.pred0[r]);
    for (int r = 0; r < b.n; ++r) add_position(b.ys[r], s - 2 * b.ys[r], &b.acc_first[size_t(r) * net_.padded]);
    const bool grey = o_.channels == 1;
    // Without lossy layer its features are zeros, the last ones: left out.
    const int pairs = grey ? (o_.lossy ? PixelNet::kGreyPairs : kGreyLossy / 2)
                           : (o_.lossy ? PixelNet::kPairs : (kFeatLossy + 1) / 2);
    const auto dense = [&](int first, int count, int ypar) {
      const auto& w = (grey ? net_.grey_first : net_.first)[2 * ypar + xpar];
      if (count)
        kn_.dense_add(&b.features[size_t(first) * kFeatures], kFeatures, count, w.data(), pairs, net_.padded,
                      &b.acc_first[size_t(first) * net_.padded]);
    };
    dense(0, even, 0);
    dense(even, b.n - even, 1);
  }
  void network(StepBuffers& b, int bank) const {
    net_.run(kn_, net_.bank[bank], b.n, b.acc_first.data(), b.scratch.data(), b.acc.data(), b.out.data(),
             o_.channels == 1);
  }

  int anchor(int y, int x, int c) const {
    return o_.anchor_lossy ? lossy_.x_tilde.at(y0_ + y, x0_ + x)[c] : o_.base[c];
  }

  // Prediction of channel c, whose predecessors at the pixel are known; encoders look up what fill_residuals() found.
  int prediction(int y, int x, int c) const {
    if (!predictions.empty()) return predictions[(size_t(y) * w + x) * 3 + c];
    return predict(kn_, ws_.p[ls_.phase(y, x)][c], samples, samples.at(y, x), c);
  }

  // Visit the samples of one pixel: f(c, grid, mixture); f sets samples (decoder) or reads them (encoder).
  template <class F>
  void pixel(int y, int x, int pred0, const int16_t* out, F&& f) {
    int e[3] = {0, 0, 0}, g[3] = {0, 0, 0};
    int16_t* slot = residuals.at(y, x);
    int16_t* p = samples.at(y, x);
    for (int c = 0; c < o_.channels; ++c) {
      const int pred = c == 0 ? pred0 : prediction(y, x, c);
      Mixture mix;
      kn_.mixture(m_.tables, out, c, pred, e, g, mix);
      Grid grid(anchor(y, x, c), o_.tau, o_.m, pred);
      f(c, grid, mix);
      e[c] = 16 * p[c] - pred;
      int a = e[c] < 0 ? -e[c] : e[c];
      g[c] = m_.tables.log[a > kPredMax ? kPredMax : a];
      put_residual(slot, c, e[c], m_.tables.log);
    }
    if (o_.channels == 1)
      for (int c = 1; c < 3; ++c) slot[c] = slot[0], slot[3 + c] = slot[3];
  }

  // Encoder: all samples are known; fill the residuals of the whole patch and count |symbol - centre| (256 bins).
  void fill_residuals(int64_t* deviations) {
    predictions.resize(size_t(h) * w * 3);
    for (int y = 0; y < h; ++y)
      for (int x = 0; x < w; ++x) {
        int16_t* slot = residuals.at(y, x);
        const int16_t* p = samples.at(y, x);
        const WindowPredictor* q = ws_.p[ls_.phase(y, x)];
        for (int c = 0; c < o_.channels; ++c) {
          const int pred = predict(kn_, q[c], samples, p, c);
          predictions[(size_t(y) * w + x) * 3 + c] = int16_t(pred);
          put_residual(slot, c, 16 * p[c] - pred, m_.tables.log);
          const Grid g(anchor(y, x, c), o_.tau, 255, pred);
          const int d = g.nearest(p[c]) - g.centre;
          deviations[d < 0 ? -d : d]++;
        }
        if (o_.channels == 1)
          for (int c = 1; c < 3; ++c) slot[c] = slot[0], slot[3 + c] = slot[3];
      }
  }

  void gather(int y, int x, int16_t* f, int& pred0) const {
    int16_t base[3];
    pred0 = prediction(y, x, 0);
    int16_t *around = f + kFeatLossy, *trunk = f + kFeatTrunk;
    if (o_.channels == 1) {
      grey_features(samples, residuals, y, x, pred0, base, f);
      base[1] = base[2] = base[0], around = f + kGreyLossy, trunk = f + kGreyTrunk, trunk[kTrunk] = 0;
    } else {
      causal_features(kn_, samples, residuals, y, x, pred0, base, f);
    }
    if (!o_.lossy) {
      around[0] = 0;  // fills up the last pair
      return;
    }
    const int Y = y0_ + y, X = x0_ + x;
    for (int t = 0; t < kLossyTaps; ++t) {
      int yy = std::min(Y + kLossyDy[t], o_.H - 1), xx = clampi(X + kLossyDx[t], 0, o_.W - 1);
      const int16_t* v = lossy_.x_tilde.at(yy, xx);
      for (int c = 0; c < 3; ++c) around[3 * t + c] = int16_t(4 * (v[c] - base[c]));
    }
    std::memcpy(trunk, lossy_.trunk.at(Y / 2, X / 2), sizeof(int16_t) * kTrunk);
  }
  void add_position(int y, int x, int32_t* acc) const {
    std::memcpy(acc, &net_.position[size_t(((y0_ + y) & 7) * 8 + ((x0_ + x) & 7)) * net_.padded],
                sizeof(int32_t) * net_.padded);
  }
  const PixelNet& net() const { return net_; }

 private:
  const Kernels& kn_;
  const Model& m_;
  const ChunkOptions& o_;
  const LinearStage& ls_;
  const WindowStage& ws_;
  const Lossy& lossy_;
  const PixelNet& net_;
  int y0_, x0_;

 public:
  const int h, w;
  PatchSamples samples;
  PatchResiduals residuals;
  std::vector<int16_t> predictions;  // encoder only
};

// Decode one patch from its lanes into planes [H][W][channels]; false if a lane is damaged.
inline bool decode_patch(const Kernels& kn, const Model& m, const ChunkOptions& o, const LinearStage& ls,
                         const WindowStage& ws, const Lossy& lossy, int y0, int x0, LaneDecoder* lanes,
                         uint8_t* planes) {
  PatchCoder pc(kn, m, o, ls, ws, lossy, y0, x0);
  StepBuffers b(PatchCoder::max_pixels(o), pc.net().padded);
  const int mask = (1 << o.lane_exp) - 1, nl = mask + 1;
  for (int s = 0; s < pc.steps(); ++s) {
    pc.first_layer(s, b);
    pc.network(b, o.bank);
    const int ya = b.n ? (s - (pc.w - 1) > 0 ? (s - (pc.w - 1) + 1) / 2 : 0) : 0;
    for (int i = 0; i < b.n; ++i) {
      const int y = ya + i, x = s - 2 * y, r = b.row_of[i];
      LaneDecoder& lane = lanes[y & mask];
      int16_t* p = pc.samples.at(y, x);
      pc.pixel(y, x, b.pred0[r], &b.out[size_t(r) * kOutPadded], [&](int c, const Grid& g, const Mixture& mix) {
        int q = g.lo;
        if (g.hi > g.lo) {
          SymbolModel sm(kn, m.tables, mix, g);
          uint32_t start, freq;
          q = sm.find(lane.slot(), g.centre, start, freq);
          lane.take(start, freq);
        }
        if (q == g.lo && g.lo > g.qmin) q = g.lo - int(lane.uniform(uint32_t(g.lo - g.qmin + 1)));
        else if (q == g.hi && g.hi < g.qmax) q = g.hi + int(lane.uniform(uint32_t(g.qmax - g.hi + 1)));
        p[c] = int16_t(g.value(q));
        if (o.channels == 1) p[1] = p[2] = p[0];
      });
      int16_t v[3] = {p[0], p[1], p[2]};
      pc.samples.put(y, x, v);
      uint8_t* out = planes + (size_t(y0 + y) * o.W + x0 + x) * o.channels;
      for (int c = 0; c < o.channels; ++c) out[c] = uint8_t(v[c]);
    }
    for (int l = 0; l < nl; ++l)
      if (lanes[l].bad()) return false;
  }
  for (int l = 0; l < nl; ++l)
    if (!lanes[l].finished()) return false;
  return true;
}

// Code one patch whose samples and residuals are filled in.
inline void encode_patch(const Kernels& kn, const Model& m, const ChunkOptions& o, PatchCoder& pc, LaneEncoder* lanes) {
  StepBuffers b(PatchCoder::max_pixels(o), pc.net().padded);
  const int mask = (1 << o.lane_exp) - 1;
  for (int s = 0; s < pc.steps(); ++s) {
    pc.first_layer(s, b);
    pc.network(b, o.bank);
    const int ya = s - (pc.w - 1) > 0 ? (s - (pc.w - 1) + 1) / 2 : 0;
    for (int i = 0; i < b.n; ++i) {
      const int y = ya + i, x = s - 2 * y, r = b.row_of[i];
      LaneEncoder& lane = lanes[y & mask];
      const int16_t* p = pc.samples.at(y, x);
      pc.pixel(y, x, b.pred0[r], &b.out[size_t(r) * kOutPadded], [&](int c, const Grid& g, const Mixture& mix) {
        const int want = g.nearest(p[c]), q = clampi(want, g.lo, g.hi);
        if (g.hi > g.lo) {
          SymbolModel sm(kn, m.tables, mix, g);
          uint32_t start, freq;
          sm.interval(q, start, freq);
          lane.put(start, freq);
        }
        if (q == g.lo && g.lo > g.qmin) lane.put_uniform(uint32_t(g.lo - want), uint32_t(g.lo - g.qmin + 1));
        else if (q == g.hi && g.hi < g.qmax) lane.put_uniform(uint32_t(want - g.hi), uint32_t(g.qmax - g.hi + 1));
      });
    }
  }
}

}  // namespace dlpr
