// Whole chunks and batches of them: the encoder's choices and the threads.
#pragma once
#include "common/parallel.hpp"
#include "networks/codec.hpp"
#include <memory>

namespace dlpr {

struct PatchGrid {
  int rows, cols, side;
  explicit PatchGrid(const ChunkOptions& o) : side(1 << o.patch_exp) {
    rows = (o.H + side - 1) / side, cols = (o.W + side - 1) / side;
  }
  int count() const { return rows * cols; }
  int y0(int i) const { return i / cols * side; }
  int x0(int i) const { return i % cols * side; }
};

// ---- decoder ----

struct DecodeJob {
  ChunkOptions o;
  const uint8_t *lossy, *linear, *lanes;
  size_t lossy_size, linear_size;
  std::vector<uint32_t> lane_sizes;  // of all patches in order; their sum is what `lanes` holds
  std::unique_ptr<uint8_t[]> out;    // [H][W][channels], once the lossy and linear parts are good
};

// A chunk on its way: what its patches share.
struct ChunkDecoder {
  DecodeJob& job;
  Lossy lossy;
  LinearStage ls;
  WindowStage ws;
  std::vector<size_t> start;  // of each lane
  std::atomic<bool> good{true};

  explicit ChunkDecoder(DecodeJob& j) : job(j) {}
  // Everything but the patches. Empty string, or what is wrong.
  const char* begin(const Kernels& kn, const Model& m) {
    const ChunkOptions& o = job.o;
    if (o.lossy && !decode_lossy(kn, m, job.lossy, job.lossy_size, o.H, o.W, lossy)) return "the lossy part is damaged";
    if (o.lossy && o.channels == 1) copy_first_channel(lossy.x_tilde);
    if (o.lossy) extend_edges(lossy.x_tilde, o.H, o.W);
    if (!read_linear(m, job.linear, job.linear_size, o.channels, ls)) return "the linear part is damaged";
    ws.set(ls);
    start.assign(job.lane_sizes.size() + 1, 0);
    for (size_t i = 0; i < job.lane_sizes.size(); ++i) start[i + 1] = start[i] + job.lane_sizes[i];
    job.out.reset(new uint8_t[size_t(o.H) * o.W * o.channels]);
    return "";
  }
  std::unique_ptr<PatchDecoder> patch(const Kernels& kn, const Model& m, int i) {
    const PatchGrid grid(job.o);
    std::vector<LaneDecoder> lanes;
    for (size_t l = size_t(i) << job.o.lane_exp; l < size_t(i + 1) << job.o.lane_exp; ++l)
      lanes.emplace_back(job.lanes + start[l], job.lane_sizes[l]);
    return std::make_unique<PatchDecoder>(kn, m, job.o, ls, ws, lossy, grid.y0(i), grid.x0(i), std::move(lanes),
                                          job.out.get());
  }
};

// Decode `count` chunks, their patches two at a time where that leaves no thread idle. errors: empty strings, or what
// is wrong.
inline void decode_chunks(const Kernels& kn, const Model& m, DecodeJob* jobs, int count, int threads,
                          const char** errors) {
  std::vector<std::unique_ptr<ChunkDecoder>> chunks;
  std::vector<std::pair<int, int>> patches;  // chunk, patch
  for (int k = 0; k < count; ++k) {
    chunks.push_back(std::make_unique<ChunkDecoder>(jobs[k]));
    errors[k] = chunks[k]->begin(kn, m);
    const int n = *errors[k] ? 0 : PatchGrid(jobs[k].o).count();
    for (int i = 0; i < n; ++i) patches.emplace_back(k, i);
  }
  const int all = int(patches.size()), together = all >= 2 * threads ? 2 : 1;
  parallel_for((all + together - 1) / together, threads, [&](int task) {
    std::unique_ptr<PatchDecoder> made[2];
    PatchDecoder* at_work[2];
    int n = 0;
    const int first = task * together, last = std::min(all, first + together);
    for (int i = first; i < last; ++i) {
      ChunkDecoder& chunk = *chunks[patches[i].first];
      if (!chunk.good) continue;
      made[i - first] = chunk.patch(kn, m, patches[i].second), at_work[n++] = made[i - first].get();
    }
    if (n) decode_patches(kn, at_work, n);
    for (int i = first; i < last; ++i)
      if (made[i - first] && !made[i - first]->good()) chunks[patches[i].first]->good = false;
  });
  for (int k = 0; k < count; ++k)
    if (!*errors[k] && !chunks[k]->good) errors[k] = "a lane is damaged";
}

inline void decode_jobs(const Kernels& kn, const Model& m, std::vector<DecodeJob>& jobs, int threads,
                        std::vector<const char*>& errors) {
  const int all = int(jobs.size()), together = all >= 2 * threads ? 2 : 1;  // chunks of one patch: two at a time
  const int tasks = (all + together - 1) / together, outer = std::min(threads, tasks);
  const int inner = outer ? std::max(1, threads / outer) : 1;
  parallel_for(tasks, outer, [&](int t) {
    const int first = t * together;
    decode_chunks(kn, m, &jobs[first], std::min(together, all - first), inner, &errors[first]);
  });
}

// ---- encoder ----

struct EncodeJob {
  ChunkOptions o;    // H, W, channels, tau, lossy, anchor_lossy, patch_exp, lane_exp; the rest is chosen here
  const uint8_t* x;  // [H][W][channels]
  int frac = 8;
  double coef_bits = 6.0;
  int only_bank = -1;  // an entry to use, or -1 for the best
  bool no_linear_taps = false;
  int max_classes = kMaxClasses, context = 3;  // FitOptions
  bool search = true;  // compare predictors of several sizes where they are a large part of the chunk
  std::vector<uint8_t> lossy, linear, lanes;
  std::vector<uint32_t> lane_sizes;
};

inline void median_colour(const uint8_t* x, size_t n, int channels, uint8_t base[3]) {
  for (int c = 0; c < channels; ++c) {
    size_t hist[256] = {0}, seen = 0;
    for (size_t i = 0; i < n; ++i) hist[x[i * channels + c]]++;
    int v = 0;
    while ((seen += hist[v]) * 2 < n) ++v;
    base[c] = uint8_t(v);
  }
  for (int c = channels; c < 3; ++c) base[c] = base[0];
}

// The interval m that costs least: a narrow one wastes nothing on symbols that never occur, but its ends are escapes.
inline int choose_interval(const std::vector<int64_t>& deviations) {
  int64_t total = 0, outside = 0;
  for (int64_t d : deviations) total += d;
  double best = 1e300;
  int m_best = 255;
  for (int m = 255; m >= 1; --m) {
    outside += deviations[m];  // |q - centre| >= m: an end or beyond
    double cost =
        double(total) * std::log2(1.0 / (1.0 - (2 * m + 1) / 65536.0)) + double(m == 255 ? 0 : outside) * 14.0;
    if (cost < best) best = cost, m_best = m;
  }
  return m_best;
}

// Bits of a step under the network's outputs, in the order of coding.
inline double step_bits(const KnownStep& known, const ChunkOptions& o, const Step& b) {
  double bits = 0;
  for (int i = 0; i < b.n; ++i) {
    const int r = b.row_of[i];
    float product = 1;
    for (int c = 0; c < o.channels; ++c) {
      const KnownStep::Channel& k = known.channel[c];
      if (k.hi[r] > k.lo[r]) product *= float(k.freq[r]) * (1.0f / 65536);
    }
    bits -= std::log2(product);
  }
  return bits;
}

inline void encode_chunk(const Kernels& kn, const Model& m, EncodeJob& j, int threads) {
  ChunkOptions& o = j.o;
  const size_t n = size_t(o.H) * o.W;
  std::vector<uint8_t> x3;
  const uint8_t* x = j.x;
  if (o.channels == 1) {
    x3.resize(3 * n);
    for (size_t i = 0; i < n; ++i) x3[3 * i] = x3[3 * i + 1] = x3[3 * i + 2] = j.x[i];
    x = x3.data();
  }
  median_colour(j.x, n, o.channels, o.base);
  Lossy lossy;
  if (o.lossy) j.lossy = encode_lossy(kn, m, x, o.H, o.W, lossy);
  if (o.lossy && o.channels == 1) copy_first_channel(lossy.x_tilde);
  if (o.lossy) extend_edges(lossy.x_tilde, o.H, o.W);
  LinearStage ls;
  WindowStage ws;
  PatchGrid grid(o);
  std::vector<std::unique_ptr<PatchCoder>> patches;
  const uint32_t inverse = Grid::inverse_of(o.tau);
  for (int i = 0; i < grid.count(); ++i) {
    patches.push_back(std::make_unique<PatchCoder>(kn, m, o, ls, ws, lossy, grid.y0(i), grid.x0(i)));
    PatchCoder& pc = *patches.back();
    for (int y = 0; y < pc.h; ++y)
      for (int i2 = 0; i2 < pc.w; ++i2) {
        const uint8_t* p = x + (size_t(grid.y0(i) + y) * o.W + grid.x0(i) + i2) * 3;
        int16_t* v = pc.samples.at(y, i2);
        for (int c = 0; c < 3; ++c) {
          const Grid g(pc.anchor(y, i2, o.channels == 1 ? 0 : c), o.tau, inverse, 255, 0);
          v[c] = int16_t(g.value(g.nearest(p[c])));
        }
        pc.samples.complete(y, i2);
      }
  }
  Moments moments;
  for (auto& pc : patches) add_moments(moments, pc->samples, kn);
  FitOptions fit;
  if (j.no_linear_taps) fit.max_taps = 0;
  fit.max_classes = j.max_classes, fit.context = j.context;
  // Everything that follows from the price of a coefficient: predictors, residuals, interval.
  auto prepare = [&](double price) {
    fit.coef_bits = price;
    ls = fit_linear(moments, j.frac, fit);
    ws.set(ls);
    std::vector<std::array<int64_t, 256>> found(grid.count());
    parallel_for(grid.count(), threads, [&](int i) { found[i].fill(0), patches[i]->fill_residuals(found[i].data()); });
    std::vector<int64_t> deviations(256, 0);
    for (auto& f : found)
      for (int d = 0; d < 256; ++d) deviations[d] += f[d];
    o.m = choose_interval(deviations);
    return write_linear(m, ls, o.channels);
  };
  // Bits of every `every`-th step under the given bank entries, scaled to the chunk.
  StepWork work(patches[0]->net().padded);
  Step b;
  KnownStep known;
  auto sample = [&](const std::vector<int>& entries, int pixels) {
    const int every = std::max(1, int(n / size_t(pixels)) | 1);  // odd: both parities of x occur
    std::vector<double> cost(entries.size(), 0.0);
    int at = 0;
    for (auto& pc : patches)
      for (int s = 0; s < pc->steps(); ++s) {
        if ((at++) % every != every / 2) continue;
        pc->first_layer(s, work, b);
        if (b.n == 0) continue;
        known.find_symbols(*pc, o, m, b, s);
        for (size_t k = 0; k < entries.size(); ++k) {
          pc->network(work, b, entries[k]);
          known.find_intervals(kn, m, o, b);
          cost[k] += every * step_bits(known, o, b);
        }
      }
    return cost;
  };
  // All entries on a small sample, then the best few on a larger one.
  auto choose_bank = [&] {
    std::vector<int> entries(m.profile.bank);
    for (int k = 0; k < m.profile.bank; ++k) entries[k] = k;
    if (j.only_bank >= 0) {
      entries = {j.only_bank};
      if (!j.search) {  // nothing is compared
        o.bank = j.only_bank;
        return 0.0;
      }
    } else {
      const auto rough = sample(entries, 384);
      std::sort(entries.begin(), entries.end(),
                [&](int x, int y) { return rough[x] < rough[y] || (rough[x] == rough[y] && x < y); });
      entries.resize(std::min<size_t>(2, entries.size()));
    }
    const auto cost = sample(entries, 1024);
    const size_t best = std::min_element(cost.begin(), cost.end()) - cost.begin();
    o.bank = entries[best];
    return cost[best];
  };
  double price = j.coef_bits;
  j.linear = prepare(price);
  double bits = choose_bank();
  // Where the predictor is a large part of the chunk (flat or small), try dearer and dearer coefficients at real cost.
  if (j.search && !j.no_linear_taps && 8.0 * double(j.linear.size()) > 0.02 * bits) {
    double best = bits + 8.0 * double(j.linear.size()), best_price = price;
    bool last_is_best = true;
    for (double p = std::max(price, 1.0) * 3; p < 3000; p *= 3) {
      auto linear = prepare(p);
      double total = sample({o.bank}, 2048)[0] + 8.0 * double(linear.size());
      last_is_best = total < best;
      if (last_is_best) best = total, best_price = p, j.linear = std::move(linear);
      else if (total > 1.1 * best) break;
    }
    if (!last_is_best) j.linear = prepare(best_price);
    if (best_price != price) choose_bank();
  }

  const int nl = 1 << o.lane_exp;
  std::vector<std::vector<uint8_t>> bytes(size_t(grid.count()) * nl);
  parallel_for(grid.count(), threads, [&](int i) {
    std::vector<LaneEncoder> lanes(nl);
    encode_patch(kn, m, o, *patches[i], lanes.data());
    for (int l = 0; l < nl; ++l) lanes[l].finish(bytes[size_t(i) * nl + l]);
  });
  for (auto& b : bytes) {
    j.lane_sizes.push_back(uint32_t(b.size()));
    j.lanes.insert(j.lanes.end(), b.begin(), b.end());
  }
}

}  // namespace dlpr
