// tau >= 1: other coefficients whose samples stay within the bound and that take fewer bits (docs/decisions/0012).
//
// Encoder only. New tables (spend_tables.hpp), coefficients rounded to them, then block by block a search that takes
// samples back within the bound and coefficients towards zero. The search's model of a block is linear; whether a
// choice is taken is decided by the decoder's integers. What is left beyond the bound is the residual's.
#pragma once
#include "jpeg/planes.hpp"
#include "jpeg/spend_tables.hpp"
#include "jpeg/synthesis.hpp"
#include "mixed/levels.hpp"

namespace dlpr {

struct SpentJpeg {
  JpegFields f;
  std::vector<int16_t> q[3];
};

class JpegSpender {
 public:
  // `made`: what the coefficients q of f make, [H][W][components] as x, with red, green, blue at places `order`.
  JpegSpender(const JpegFields& f, const int16_t* const* q, const uint8_t* made, const uint8_t* x, int tau,
              const int order[3])
      : f_(f), price_(f_) {
    const int n = f.components, step = 2 * tau + 1;
    const size_t pixels = size_t(f.H) * f.W;
    for (int c = 0; c < n; ++c) {
      const int at = n == 1 ? 0 : order[c];
      low_[c].resize(pixels), high_[c].resize(pixels);
      for (size_t i = 0; i < pixels; ++i) {
        // A sample that has a residual may have a smaller one instead.
        const int v = x[i * n + at], r = v - made[i * n + at], more = (std::abs(r) + tau) / step * step;
        low_[c][i] = jpeg_clamp8(v - tau - (r > 0 ? more : 0)), high_[c][i] = jpeg_clamp8(v + tau + (r < 0 ? more : 0));
      }
      q_[c].assign(q[c], q[c] + f.blocks(c) * 64);
    }
    coarser_tables(f, q_, tau, f_);
    for (int c = 0; c < n; ++c)
      for (size_t i = 0; i < q_[c].size(); ++i) {
        const int was = f.tables[c][i & 63], is = f_.tables[c][i & 63];
        if (was != is) q_[c][i] = int16_t(nearest_multiple(q_[c][i] * was, is));
      }
    rows_ = f_.rows(n - 1) * 8, columns_ = f_.cols(n - 1) * 8;
    if (f_.crop) rows_ = (f_.phase_y + f_.H + f_.sv - 1) / f_.sv, columns_ = (f_.phase_x + f_.W + f_.sh - 1) / f_.sh;
    for (int c = 0; c < n; ++c) prepare(c);
  }

  SpentJpeg run() {
    const int n = f_.components;
    std::vector<uint8_t> open[3];  // blocks worth another look
    for (int c = 0; c < n; ++c) open[c].assign(f_.blocks(c), 1);
    for (int pass = 0; pass < 2; ++pass) {
      price_.learn(q_);
      for (int i = 0; i < n; ++i) {
        const int c = i;
        for (int y = f_.first_row(c); y < f_.end_row(c); ++y)
          for (int x = f_.first_col(c); x < f_.end_col(c); ++x) {
            uint8_t& again = open[c][size_t(y) * f_.cols(c) + x];
            if (again) again = block(c, y, x);
          }
      }
    }
    SpentJpeg out;
    out.f = f_;
    for (int c = 0; c < n; ++c) out.q[c] = std::move(q_[c]);
    return out;
  }

 private:
  typedef int16_t Lanes __attribute__((vector_size(16)));
  static constexpr int kOne = 64;        // units of a level in the model
  static constexpr int kMost = 18 * 18;  // samples that a block has a part in, 41 vectors
  static constexpr int kVectors = (kMost + 7) / 8;
  static constexpr int kFree = 20000;      // a limit that is none
  static constexpr int kFarthest = 16000;  // from the middle of what is allowed
  static constexpr int kSampleBits = 8 * SpendPrice::kUnit, kLevelBits = 6 * SpendPrice::kUnit;  // of what is beyond
  static constexpr int kLeastGain = 8, kDearest = 4 * SpendPrice::kUnit, kDcBits = 64;
  static constexpr int kStale = 6, kTabu = 4, kTries = 6;

  bool sampled(int c) const { return c && f_.subsampled(); }
  size_t stride(int c) const { return size_t(f_.cols(c)) * 8; }

  // The window's samples that a block of component c has a part in, in units of full size.
  struct Reach {
    int height, width, before_y, before_x;  // rows and columns before the block's own
    int samples() const { return height * width; }
    int vectors() const { return (samples() + 7) / 8; }
  };
  Reach reach(int c) const {
    const int sv = sampled(c) ? f_.sv : 1, sh = sampled(c) ? f_.sh : 1;
    const int y = sv == 2 && !f_.box, x = sh == 2 && !f_.box;
    return {8 * sv + 2 * y, 8 * sh + 2 * x, y, x};
  }

  // Planes, samples at full size and the basis of component c.
  void prepare(int c) {
    jpeg_plane(f_, c, q_[c].data(), plane_[c]);
    full_[c].resize(size_t(f_.H) * f_.W);
    for (int y = 0; y < f_.H; ++y)
      for (int x = 0; x < f_.W; ++x) full_[c][size_t(y) * f_.W + x] = uint8_t(sample(c, y, x));
    const Reach r = reach(c);
    basis_[c].assign(size_t(64) * kVectors, Lanes{});
    places_[c].assign(size_t(kMost) * 64, 0);
    for (int k = 0; k < 64; ++k) {
      float one[64] = {}, grid[100] = {}, out[kMost];
      one[k] = f_.tables[c][k];
      inverse(one, grid);
      spread(c, r, grid, out);
      for (int i = 0; i < r.samples(); ++i) {
        const int16_t v = int16_t(std::lrint(out[i] * kOne));
        basis_[c][size_t(k) * kVectors + i / 8][i % 8] = v, places_[c][size_t(i) * 64 + k] = v;
      }
    }
  }

  // The decoder's sample of component c at full size, at a pixel of the window.
  int sample(int c, int y, int x) const {
    y += f_.phase_y, x += f_.phase_x;
    const uint8_t* p = plane_[c].data();
    const size_t row = stride(c);
    if (!sampled(c)) return p[y * row + x];
    if (f_.box) return p[size_t(y / f_.sv) * row + x / f_.sh];
    const int near_y = y / f_.sv, near_x = x / f_.sh;
    const int far_y = y & 1 ? std::min(near_y + 1, rows_ - 1) : std::max(near_y - 1, 0);
    auto sum = [&](int i) {
      return f_.sv == 2 ? 3 * p[near_y * row + i] + p[far_y * row + i] : int(p[near_y * row + i]);
    };
    if (f_.sh == 1) return (sum(x) + (y & 1 ? 2 : 1)) >> 2;
    const int far_x = x & 1 ? std::min(near_x + 1, columns_ - 1) : std::max(near_x - 1, 0);
    const int bias = f_.sv == 2 ? (x & 1 ? 7 : 8) : (x & 1 ? 2 : 1);
    return (3 * sum(near_x) + sum(far_x) + bias) >> (f_.sv == 2 ? 4 : 2);
  }

  // Inverse DCT without rounding into the inside of a grid of 10 x 10.
  static void inverse(const float* coefficients, float* grid) {
    const Dct& d = dct();
    float t[64];
    for (int v = 0; v < 8; ++v)
      for (int x = 0; x < 8; ++x) {
        float s = 0;
        for (int u = 0; u < 8; ++u) s += coefficients[8 * v + u] * d.m[u][x];
        t[8 * v + x] = s;
      }
    for (int y = 0; y < 8; ++y)
      for (int x = 0; x < 8; ++x) {
        float s = 0;
        for (int v = 0; v < 8; ++v) s += t[8 * v + x] * d.m[v][y];
        grid[10 * (y + 1) + x + 1] = s;
      }
  }

  // Samples at full size, without rounding, from a block and what is around it, [10][10].
  void spread(int c, const Reach& r, const float* grid, float* out) const {
    const bool tall = sampled(c) && f_.sv == 2, wide = sampled(c) && f_.sh == 2;
    // Nearer and farther index of a place along one axis, -1 where the filter ends.
    auto near = [&](int i, bool twice) { return twice ? (i + 2) >> 1 : i + 1; };
    auto far = [&](int i, bool twice) {
      const int m = near(i, twice) + (i & 1 ? 1 : -1);
      return !twice || f_.box || m < 0 || m > 9 ? -1 : m;
    };
    for (int y = 0; y < r.height; ++y)
      for (int x = 0; x < r.width; ++x) {
        const int ny = near(y - r.before_y, tall), fy = far(y - r.before_y, tall);
        const int nx = near(x - r.before_x, wide), fx = far(x - r.before_x, wide);
        const bool mix_y = tall && !f_.box, mix_x = wide && !f_.box;
        auto column = [&](int i) {
          return mix_y ? 0.75f * grid[10 * ny + i] + (fy < 0 ? 0.f : 0.25f * grid[10 * fy + i]) : grid[10 * ny + i];
        };
        out[y * r.width + x] = mix_x ? 0.75f * column(nx) + (fx < 0 ? 0.f : 0.25f * column(fx)) : column(nx);
      }
  }

  // Values of component c's sample at pixel i that keep the pixel within its bounds while the other components stay.
  void interval(int c, size_t i, int& low, int& high) const {
    if (f_.transform == 0) {
      low = low_[c][i], high = high_[c][i];
    } else {
      int l[3], h[3];  // a sample cut off at 0 or 255 may be anywhere beyond
      for (int k = 0; k < 3; ++k)
        l[k] = low_[k][i] == 0 ? -1000 : low_[k][i], h[k] = high_[k][i] == 255 ? 1000 : high_[k][i];
      const int y = full_[0][i], cb = full_[1][i] - 128, cr = full_[2][i] - 128;
      auto quotient = [](int a, int b) { return int(floor_div(a, b)); };
      if (c == 0) {
        const int r = (91881 * cr + 32768) >> 16, g = (-22554 * cb - 46802 * cr + 32768) >> 16;
        const int b = (116130 * cb + 32768) >> 16;
        low = std::max(l[0] - r, std::max(l[1] - g, l[2] - b)), high = std::min(h[0] - r, std::min(h[1] - g, h[2] - b));
      } else {
        const int own = c == 1 ? 2 : 0, gain = c == 1 ? 116130 : 91881, green = c == 1 ? 22554 : 46802;
        const int rest = 32768 - (c == 1 ? 46802 * cr : 22554 * cb);
        low = quotient((l[own] - y) * 65536 - 32768 + gain - 1, gain);
        high = quotient((h[own] - y + 1) * 65536 - 1 - 32768, gain);
        low = std::max(low, quotient(rest - (h[1] - y + 1) * 65536, green) + 1) + 128;
        high = std::min(high, quotient(rest - (l[1] - y) * 65536, green)) + 128;
      }
    }
    if (low <= 0) low = -kFree;
    if (high >= 255) high = kFree;
  }

  // A block's model: samples around the middle of what is allowed, in 1/64 level, and how far they may go.
  struct Model {
    Lanes at[kVectors], room[kVectors], seen[kVectors];
  };

  // What samples beyond their room cost after `times` of a basis function more, in 1/256 bit.
  static int beyond(const Model& m, const Lanes* at, const Lanes* basis, int16_t times, int n) {
    Lanes count = {}, sum = {};
    const Lanes none = {}, most = none + int16_t(4 * kOne);
    for (int i = 0; i < n; ++i) {
      const Lanes u = (at[i] + basis[i] * times) & m.seen[i], minus = -u;
      Lanes e = (u > minus ? u : minus) - m.room[i];
      e = e > none ? e : none;
      e = e < most ? e : most;
      count -= e > none, sum += e;
    }
    int counted = 0, summed = 0;
    for (int i = 0; i < 8; ++i) counted += count[i], summed += sum[i];
    return counted * kSampleBits + summed * (kLevelBits / kOne);
  }

  // The model of a block as it is; false: its values are too large for it.
  bool model(int c, int by, int bx, const Reach& r, int top, int start) {
    const int16_t* b = &q_[c][(size_t(by) * f_.cols(c) + bx) * 64];
    float values[64], grid[100] = {}, out[kMost];
    for (int k = 0; k < 64; ++k) values[k] = float(b[k]) * f_.tables[c][k];
    inverse(values, grid);
    if (sampled(c))  // what stands around, and a block's own edge where there is nothing
      for (int y = -1; y < 9; ++y)
        for (int x = -1; x < 9; ++x) {
          const int py = std::min(std::max(8 * by + y, 0), rows_ - 1),
                    px = std::min(std::max(8 * bx + x, 0), columns_ - 1);
          const bool own = y >= 0 && y < 8 && x >= 0 && x < 8;
          if (!own) grid[10 * (y + 1) + x + 1] = float(plane_[c][py * stride(c) + px]) - 128;
        }
    spread(c, r, grid, out);
    std::fill(model_.at, model_.at + kVectors, Lanes{});
    std::fill(model_.room, model_.room + kVectors, Lanes{} + int16_t(kFree));
    std::fill(model_.seen, model_.seen + kVectors, Lanes{});
    for (int y = 0; y < r.height; ++y)
      for (int x = 0; x < r.width; ++x) {
        const int i = y * r.width + x, py = top + y, px = start + x;
        low_at_[i] = -kFree, high_at_[i] = kFree;
        if (py < 0 || px < 0 || py >= f_.H || px >= f_.W) continue;
        if (!(std::fabs(out[i]) < 300)) return false;
        interval(c, size_t(py) * f_.W + px, low_at_[i], high_at_[i]);
        const int v = int(std::lrint(out[i] * kOne));
        int low = (low_at_[i] - 128) * kOne - kOne / 2, high = (high_at_[i] - 128) * kOne + kOne / 2;
        if (low_at_[i] == -kFree) low = std::min(v, high_at_[i] == kFree ? v : high) - 64 * kOne;
        if (high_at_[i] == kFree) high = std::max(v, low_at_[i] == -kFree ? v : low) + 64 * kOne;
        const int at = v - ((low + high) >> 1);
        model_.at[i / 8][i % 8] = int16_t(limited(at, kFarthest));
        model_.room[i / 8][i % 8] = int16_t(std::max((high - low + 1) >> 1, kOne / 2));
        model_.seen[i / 8][i % 8] = -1;
      }
    return true;
  }

  // Samples that lie outside their intervals with block b in the planes; their values in `v`.
  int outside(int c, const Reach& r, int top, int start, uint8_t* v) const {
    int n = 0;
    for (int y = std::max(0, -top); y < std::min(r.height, f_.H - top); ++y)
      for (int x = std::max(0, -start); x < std::min(r.width, f_.W - start); ++x) {
        const int i = y * r.width + x;
        v[i] = uint8_t(sample(c, top + y, start + x));
        n += v[i] < low_at_[i] || v[i] > high_at_[i];
      }
    return n;
  }

  // Search block (by, bx) of component c. True: it changed or has samples beyond their bounds.
  bool block(int c, int by, int bx) {
    const Reach r = reach(c);
    const int sv = sampled(c) ? f_.sv : 1, sh = sampled(c) ? f_.sh : 1, n = r.vectors();
    const int top = 8 * sv * by - r.before_y - f_.phase_y, start = 8 * sh * bx - r.before_x - f_.phase_x;
    if (!model(c, by, bx, r, top, start)) return false;
    int16_t* b = &q_[c][(size_t(by) * f_.cols(c) + bx) * 64];
    const SpendPrice::Around around = price_.around(q_, c, by, bx);
    uint8_t samples[kMost];
    int wrong = outside(c, r, top, start, samples);
    uint64_t barred[2] = {0, 0};  // first steps that led to what the decoder's integers refuse
    bool changed = false;
    for (int i = 0; i < kTries; ++i) {
      Found found;
      if (!search(c, b, around, barred, n, found)) break;
      const int16_t* old = b;
      int16_t before[64];
      std::copy_n(old, 64, before);
      std::copy_n(found.b, 64, b);
      uint8_t *p = plane_[c].data() + size_t(by) * 8 * stride(c) + size_t(bx) * 8, kept[64];
      for (int y = 0; y < 8; ++y) std::memcpy(kept + 8 * y, p + y * stride(c), 8);
      jpeg_idct(b, f_.tables[c], p, stride(c));
      const int now = outside(c, r, top, start, samples), each = kSampleBits + kLevelBits;
      const int most = found.bits > 0 ? wrong - 1 - found.bits / each : wrong - found.bits / each;
      if (now > most) {
        std::copy_n(before, 64, b);
        for (int y = 0; y < 8; ++y) std::memcpy(p + y * stride(c), kept + 8 * y, 8);
        barred[found.first > 0] |= uint64_t(1) << (std::abs(found.first) - 1);
        continue;
      }
      for (int y = std::max(0, -top); y < std::min(r.height, f_.H - top); ++y)
        for (int x = std::max(0, -start); x < std::min(r.width, f_.W - start); ++x)
          full_[c][size_t(top + y) * f_.W + start + x] = samples[y * r.width + x];
      for (int z = 0; z < 64; ++z)
        if (b[z] != before[z]) move(model_.at, &basis_[c][size_t(z) * kVectors], b[z] - before[z], n);
      wrong = now, changed = true;
    }
    return changed || wrong > 0;
  }

  // `times` of a basis function more. Far outside a value stops, so that no sum leaves 16 bits.
  static void move(Lanes* at, const Lanes* basis, int times, int n) {
    const Lanes most = Lanes{} + int16_t(kFarthest), least = -most;
    for (int t = std::abs(times); t > 0; --t)
      for (int i = 0; i < n; ++i) {
        const Lanes v = times < 0 ? at[i] - basis[i] : at[i] + basis[i], w = v > most ? most : v;
        at[i] = w < least ? least : w;
      }
  }

  struct Found {
    int16_t b[64];
    int bits = 0, first = 0;  // more bits than before; the first step: place + 1, its sign the step's
  };

  // Steps of one from block b on, always the best, back never at once (tabu search), until nothing better comes.
  bool search(int c, const int16_t* b, const SpendPrice::Around& around, const uint64_t (&barred)[2], int n,
              Found& found) {
    const Lanes* basis = basis_[c].data();
    int16_t now[64];
    std::copy_n(b, 64, now);
    Lanes at[kVectors];
    std::copy_n(model_.at, n, at);
    size_t places[64];
    for (int z = 1; z < 64; ++z) places[z] = price_.place(c, z, b, around);
    static const Lanes none[kVectors] = {};
    int until[64] = {}, cost = beyond(model_, at, none, 0, n), total = 0, bits = 0, least = -kLeastGain, first = 0;
    bool any = false;
    for (int step = 1, stale = 0; step <= 200 && stale < kStale; ++step, ++stale) {
      int32_t pull[64] = {};
      if (cost) pulls(c, at, n, pull);
      int best = cost ? 1 << 30 : 0, z_best = -1, d_best = 0, bits_best = 0, cost_best = 0;
      for (int z = 0; z < 64; ++z) {
        if (until[z] > step) continue;
        for (int d = -1; d <= 1; d += 2) {
          if (step == 1 && barred[d > 0] >> z & 1) continue;
          const int v = now[z] + d, more = z ? price_.bits(places[z], v) - price_.bits(places[z], now[z]) : kDcBits;
          // neither cheaper nor a help, too dear, or worse than the best whatever it helps
          if ((more >= 0 && d * pull[z] > -kOne / 4) || more > kDearest || more - cost >= best) continue;
          if (std::abs(v) > kJpegCoefficientMax) continue;
          const int after = beyond(model_, at, basis + size_t(z) * kVectors, int16_t(d), n), all = more + after - cost;
          if (all < best) best = all, z_best = z, d_best = d, bits_best = more, cost_best = after;
        }
      }
      if (z_best < 0) break;
      if (step == 1) first = d_best * (z_best + 1);
      now[z_best] = int16_t(now[z_best] + d_best);
      move(at, basis + size_t(z_best) * kVectors, d_best, n);
      cost = cost_best, bits += bits_best, total += best, until[z_best] = step + kTabu;
      if (total < least) {
        least = total, found.bits = bits, found.first = first, stale = 0, any = true;
        std::copy_n(now, 64, found.b);
      }
    }
    return any;
  }

  // How a step of each coefficient moves the samples beyond their room further out, all together.
  void pulls(int c, const Lanes* at, int n, int32_t* pull) const {
    for (int i = 0; i < n; ++i) {
      const Lanes u = at[i] & model_.seen[i], minus = -u, e = (u > minus ? u : minus) - model_.room[i];
      for (int j = 0; j < 8; ++j) {
        if (e[j] <= 0) continue;
        const int16_t* k = &places_[c][size_t(8 * i + j) * 64];
        const int sign = u[j] < 0 ? -1 : 1;
        for (int z = 0; z < 64; ++z) pull[z] += sign * k[z];
      }
    }
  }

  JpegFields f_;
  SpendPrice price_;
  std::vector<int16_t> q_[3];
  std::vector<uint8_t> plane_[3], full_[3], low_[3], high_[3];  // blocks' samples; the window's; their bounds
  int rows_ = 0, columns_ = 0;                                  // of chroma that upsampling may read
  std::vector<Lanes> basis_[3];                                 // [64][kVectors]
  std::vector<int16_t> places_[3];                              // the same, [kMost][64]
  Model model_;
  int low_at_[kMost], high_at_[kMost];
};

}  // namespace dlpr
