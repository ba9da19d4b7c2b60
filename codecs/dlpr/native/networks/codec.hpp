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

// What leads to the network's outputs of one step. Rows are grouped by parity of y so that one weight matrix serves a
// group.
struct StepWork {
  std::vector<int16_t> features, scratch;
  std::vector<const int32_t*> start;  // of the first layer's sums: position
  std::vector<int32_t> acc_first;
  explicit StepWork(int padded)
      : features(size_t(kStepPixels) * kFeatures + 32),
        scratch(size_t(kStepPixels) * padded * 3),
        start(kStepPixels),
        acc_first(size_t(kStepPixels) * padded) {}
};
// One step of one patch.
struct Step {
  int s = 0, n = 0;
  int ys[kStepPixels];           // y of each row of the matrices
  int row_of[kStepPixels];       // row of the i-th pixel in coding order
  std::vector<int16_t> out;      // kOutPadded in a row, rows to the next multiple of 8
  std::vector<int32_t> weight;   // [15][kStep]
  PixelTask tasks[kStepPixels];  // decoder: by coding order
  Step() : out(size_t(kStepPixels + 8) * kOutPadded), weight(15 * kStep) {}
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
  int first_row(int s) const { return s - (w - 1) > 0 ? (s - (w - 1) + 1) / 2 : 0; }
  // Pixels of step s; features of each; first-layer sums.
  void first_layer(int s, StepWork& work, Step& b) {
    const int ya = first_row(s), yb = std::min(h - 1, s / 2);
    b.s = s, b.n = std::max(0, yb - ya + 1);
    int even = 0, row = 0;
    for (int pass = 0; pass < 2; ++pass)
      for (int y = ya; y <= yb; ++y)
        if (((y0_ + y) & 1) == pass) b.ys[row] = y, b.row_of[y - ya] = row++, even += pass == 0;
    const int xpar = (x0_ + s) & 1;  // x = s - 2y keeps its parity
    for (int i = 0; i < b.n; ++i) {
      const int y = ya + i, r = b.row_of[i];
      gather(y, s - 2 * y, r, &work.features[size_t(r) * kFeatures], b.tasks[i]);
      work.start[r] = position(y, s - 2 * y);
    }
    const bool grey = o_.channels == 1;
    // Without lossy layer its features are zeros, the last ones: left out.
    const int pairs = grey ? (o_.lossy ? PixelNet::kGreyPairs : kGreyLossy / 2)
                           : (o_.lossy ? PixelNet::kPairs : (kFeatLossy + 1) / 2);
    const auto dense = [&](int first, int count, int ypar) {
      const auto& w = (grey ? net_.grey_first : net_.first)[2 * ypar + xpar];
      if (count)
        kn_.dense(&work.features[size_t(first) * kFeatures], kFeatures, count, w.data(), pairs, net_.padded,
                  &work.start[first], &work.acc_first[size_t(first) * net_.padded]);
    };
    dense(0, even, 0);
    dense(even, b.n - even, 1);
  }
  void network(StepWork& work, Step& b, int bank) const {
    net_.run(kn_, net_.bank[bank], b.n, work.acc_first.data(), work.scratch.data(), b.out.data(), o_.channels == 1);
    kn_.weights(m_.tables, b.out.data(), b.n, b.weight.data());
  }

  int anchor(int y, int x, int c) const {
    return o_.anchor_lossy ? lossy_.x_tilde.at(y0_ + y, x0_ + x)[c] : o_.base[c];
  }

  // Residuals of a pixel whose samples are known.
  void put_residuals(int16_t* slot, const int16_t* p, const int16_t* pred) const {
    for (int c = 0; c < o_.channels; ++c) put_residual(slot, c, 16 * p[c] - pred[c], m_.tables.log);
    if (o_.channels == 1)
      for (int c = 1; c < 3; ++c) slot[c] = slot[0], slot[3 + c] = slot[3];
  }

  // Encoder: all samples are known; fill the residuals of the whole patch and count |symbol - centre| (256 bins).
  void fill_residuals(int64_t* deviations) {
    predictions.resize(size_t(h) * w * 3);
    int16_t* found = predictions.data();
    const uint32_t inverse = Grid::inverse_of(o_.tau);
    for (int y = 0; y < h; ++y)
      for (int x = 0; x < w; ++x, found += 3) {
        const int16_t* p = samples.at(y, x);
        int pred[3];
        predict(kn_, ws_.p[ls_.phase(y, x)], samples, p, pred);
        for (int c = 0; c < 3; ++c) found[c] = int16_t(pred[c]);
        put_residuals(residuals.at(y, x), p, found);
        for (int c = 0; c < o_.channels; ++c) {
          int d = p[c] - clampi((pred[c] + 8) >> 4, 0, 255);
          if (o_.tau) {
            const Grid g(anchor(y, x, c), o_.tau, inverse, 255, pred[c]);
            d = g.nearest(p[c]) - g.centre;
          }
          deviations[d < 0 ? -d : d]++;
        }
      }
  }

  // Features of a pixel; for decoders also what is left to do there.
  void gather(int y, int x, int row, int16_t* f, PixelTask& task) {
    int16_t base[4];
    int pred0;
    if (predictions.empty()) {
      task.sample = samples.at(y, x), task.residual = residuals.at(y, x);
      task.predictor = ws_.p[ls_.phase(y, x)];
      kn_.windows(task.sample, samples.stride, task.predictor, task.prediction);
      task.row = row, task.lane = y & ((1 << o_.lane_exp) - 1);
      for (int c = 0; c < 3; ++c) task.anchor[c] = uint8_t(anchor(y, x, c));
      pred0 = finish_prediction(task.prediction[0], task.predictor->shift);
    } else {
      pred0 = predictions[(size_t(y) * w + x) * 3];
    }
    int16_t *around = f + kFeatLossy, *trunk = f + kFeatTrunk;
    if (o_.channels == 1) {
      grey_features(samples, residuals, y, x, pred0, base, f);
      base[1] = base[2] = base[3] = base[0], around = f + kGreyLossy, trunk = f + kGreyTrunk;
    } else {
      causal_features(kn_, samples, residuals, y, x, pred0, base, f);
    }
    if (!o_.lossy) {
      around[0] = 0;  // fills up the last pair
      return;
    }
    const int Y = y0_ + y, X = x0_ + x;
    kn_.around(lossy_.x_tilde.at(Y, X), lossy_.x_tilde.at(Y + 1, X - 1), base, around);
    std::memcpy(trunk, lossy_.trunk.at(Y / 2, X / 2), sizeof(int16_t) * kTrunk);
    if (o_.channels == 1) trunk[kTrunk] = 0;
  }
  const int32_t* position(int y, int x) const {
    return &net_.position[size_t(((y0_ + y) & 7) * 8 + ((x0_ + x) & 7)) * net_.padded];
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

// Symbols and intervals of one step whose samples are known, by row.
struct KnownStep {
  struct Channel {
    int32_t pred[kStep] = {0}, e[kStep] = {0}, g[kStep] = {0}, want[kStep] = {0}, symbol[kStep] = {0}, lo[kStep] = {0},
            hi[kStep] = {0}, qmin[kStep] = {0}, qmax[kStep] = {0}, bound0[kStep] = {0}, start[kStep], freq[kStep];
    void put(LaneEncoder& lane, int r) const {
      const int q = symbol[r];
      if (hi[r] > lo[r]) lane.put(uint32_t(start[r]), uint32_t(freq[r]));
      if (q == lo[r] && lo[r] > qmin[r]) lane.put_uniform(uint32_t(lo[r] - want[r]), uint32_t(lo[r] - qmin[r] + 1));
      else if (q == hi[r] && hi[r] < qmax[r])
        lane.put_uniform(uint32_t(want[r] - hi[r]), uint32_t(qmax[r] - hi[r] + 1));
    }
  };
  Channel channel[3];
  alignas(64) int16_t outputs[kOutPadded * kStep];

  void find_symbols(const PatchCoder& pc, const ChunkOptions& o, const Model& m, const Step& b, int s) {
    const uint32_t inverse = Grid::inverse_of(o.tau);
    for (int r = 0; r < b.n; ++r) {
      const int y = b.ys[r], x = s - 2 * y;
      const int16_t *p = pc.samples.at(y, x), *pred = &pc.predictions[(size_t(y) * pc.w + x) * 3];
      for (int c = 0; c < o.channels; ++c) {
        Channel& k = channel[c];
        const Grid g(o.tau ? pc.anchor(y, x, c) : 0, o.tau, inverse, o.m, pred[c]);
        const int e = 16 * p[c] - pred[c], a = e < 0 ? -e : e;
        k.pred[r] = pred[c], k.e[r] = e, k.g[r] = m.tables.log[a > kPredMax ? kPredMax : a];
        k.want[r] = g.nearest(p[c]), k.symbol[r] = clampi(k.want[r], g.lo, g.hi);
        k.lo[r] = g.lo, k.hi[r] = g.hi, k.qmin[r] = g.qmin, k.qmax[r] = g.qmax;
        k.bound0[r] = 64 * (g.anchor - o.tau) - 32;
      }
    }
  }
  void find_intervals(const Kernels& kn, const Model& m, const ChunkOptions& o, const Step& b) {
    kn.transpose(b.out.data(), b.n, 0, kOutPadded, outputs);
    for (int c = 0; c < o.channels; ++c) {
      Channel& k = channel[c];
      kn.intervals(m.tables,
                   {outputs,
                    b.weight.data(),
                    {channel[0].e, channel[1].e},
                    {channel[0].g, channel[1].g},
                    k.pred,
                    k.symbol,
                    k.lo,
                    k.hi,
                    k.bound0,
                    64 * (2 * o.tau + 1)},
                   c, b.n, k.start, k.freq);
    }
  }
};

// Decodes one patch from its lanes into planes [H][W][channels], step by step.
class PatchDecoder {
 public:
  PatchDecoder(const Kernels& kn, const Model& m, const ChunkOptions& o, const LinearStage& ls, const WindowStage& ws,
               const Lossy& lossy, int y0, int x0, std::vector<LaneDecoder> lanes, uint8_t* planes)
      : pc_(kn, m, o, ls, ws, lossy, y0, x0),
        o_(o),
        tables_(m.tables),
        lanes_(std::move(lanes)),
        planes_(planes + (size_t(y0) * o.W + x0) * o.channels) {}

  int padded() const { return pc_.net().padded; }
  // Step s up to the network's outputs, and what is left to do; false if there is nothing.
  bool prepare(int s, StepWork& work, StepUnknown& unknown) {
    if (s >= pc_.steps() || damaged_) return false;
    pc_.first_layer(s, work, step_);
    if (step_.n == 0) return false;
    pc_.network(work, step_, o_.bank);
    unknown = {&tables_, step_.out.data(),        step_.weight.data(), step_.tasks,
               step_.n,  lanes_.data(),           o_.channels,         o_.tau,
               o_.m,     Grid::inverse_of(o_.tau)};
    return true;
  }
  // After the step's samples are there.
  void complete() {
    const int ya = pc_.first_row(step_.s);
    for (int i = 0; i < step_.n; ++i) {
      const int y = ya + i, x = step_.s - 2 * y;
      pc_.samples.complete(y, x);
      const int16_t* p = step_.tasks[i].sample;
      uint8_t* out = planes_ + (size_t(y) * o_.W + x) * o_.channels;
      for (int c = 0; c < o_.channels; ++c) out[c] = uint8_t(p[c]);
    }
    for (const LaneDecoder& lane : lanes_) damaged_ |= lane.bad();
  }
  int steps() const { return pc_.steps(); }
  bool good() const {
    for (const LaneDecoder& lane : lanes_)
      if (!lane.finished()) return false;
    return !damaged_;
  }

 private:
  PatchCoder pc_;
  const ChunkOptions& o_;
  const Tables& tables_;
  std::vector<LaneDecoder> lanes_;
  uint8_t* planes_;
  Step step_;
  bool damaged_ = false;
};

// Decode one patch or two at a time: of two, one is computed while the other waits for its entropy decoder.
inline void decode_patches(const Kernels& kn, PatchDecoder* const* patches, int count) {
  int steps = 0;
  for (int k = 0; k < count; ++k) steps = std::max(steps, patches[k]->steps());
  StepWork work(patches[0]->padded());
  for (int s = 0; s < steps; ++s) {
    StepUnknown unknown[2];
    PatchDecoder* at_work[2];
    int n = 0;
    for (int k = 0; k < count; ++k)
      if (patches[k]->prepare(s, work, unknown[n])) at_work[n++] = patches[k];
    kn.decode_step(unknown, n);
    for (int k = 0; k < n; ++k) at_work[k]->complete();
  }
}

// Code one patch whose samples and residuals are filled in.
inline void encode_patch(const Kernels& kn, const Model& m, const ChunkOptions& o, PatchCoder& pc, LaneEncoder* lanes) {
  StepWork work(pc.net().padded);
  Step b;
  KnownStep known;
  const int mask = (1 << o.lane_exp) - 1;
  for (int l = 0; l <= mask; ++l) lanes[l].reserve(size_t(pc.h) * pc.w * o.channels / (mask + 1));
  for (int s = 0; s < pc.steps(); ++s) {
    pc.first_layer(s, work, b);
    if (b.n == 0) continue;
    pc.network(work, b, o.bank);
    known.find_symbols(pc, o, m, b, s);
    known.find_intervals(kn, m, o, b);
    const int ya = pc.first_row(s);
    for (int i = 0; i < b.n; ++i)
      for (int c = 0; c < o.channels; ++c) known.channel[c].put(lanes[(ya + i) & mask], b.row_of[i]);
  }
}

}  // namespace dlpr
