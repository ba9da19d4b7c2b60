// The 9/7 wavelet of a tile in floating point, its transpose, and the coefficients that fit what is seen of the tile.
// For the search alone (docs/decisions/0018-jpeg-2000-behind-pixels.md): what it finds is synthesised in integers.
#pragma once
#include "j2k/combs.hpp"
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace dlpr {

struct WaveRect {
  int y0, x0, y1, x1;
  int h() const { return y1 - y0; }
  int w() const { return x1 - x0; }
};

// Coefficients lie band after band: LL, then HL, LH, HH of depth 1, of depth 2, ..., each by rows.
//
// Where samples of a part of the tile alone are of interest, planes of each depth are only as large as what reaches
// them: four more on each side than the synthesis asks for, so that no value that counts sees where a plane ends.
class TileWavelet {
 public:
  TileWavelet(WaveRect tile, int levels, WaveRect seen) : levels_(levels) {
    rects_.push_back(tile);
    for (int d = 1; d <= levels; ++d)
      rects_.push_back({up(tile.y0, d), up(tile.x0, d), up(tile.y1, d), up(tile.x1, d)});
    const WaveRect& last = rects_[size_t(levels)];
    size_t n = size_t(last.h()) * last.w();
    starts_.push_back(0);
    for (int d = 1; d <= levels; ++d)
      for (int o = 1; o < 4; ++o) starts_.push_back(n), n += size_t(rows(d, o)) * columns(d, o);
    size_ = n;
    for (int d = 0; d < levels; ++d) {
      const WaveRect& all = rects_[size_t(d)];
      seen = {std::max(seen.y0 - kReach, all.y0), std::max(seen.x0 - kReach, all.x0),
              std::min(seen.y1 + kReach, all.y1), std::min(seen.x1 + kReach, all.x1)};
      planes_.push_back(seen);
      seen = {up(seen.y0, 1), up(seen.x0, 1), up(seen.y1, 1), up(seen.x1, 1)};
    }
    planes_.push_back(last);
  }
  size_t size() const { return size_; }
  const WaveRect& tile() const { return rects_[0]; }
  // The rectangle of samples that is computed.
  const WaveRect& plane() const { return planes_[0]; }

  // out: samples of plane(), of which those seen are right.
  void inverse(const float* c, float* out) {
    const WaveRect& last = rects_[size_t(levels_)];
    low_.assign(c, c + size_t(last.h()) * last.w());
    for (int d = levels_; d >= 1; --d) {
      const WaveRect& r = planes_[size_t(d) - 1];
      whole_.resize(size_t(r.h()) * r.w());
      each(d, [&](int o, float* at, size_t from, int n) {
        const float* source = (o ? c + starts_[band(d, o)] : low_.data()) + from;
        for (int k = 0; k < n; ++k) at[2 * k] = source[k];
      });
      both(whole_.data(), r, kInverse);
      low_.swap(whole_);
    }
    std::copy(low_.begin(), low_.end(), out);
  }
  // x: samples of plane().
  void forward(const float* x, float* c) { down(x, c, kForward); }
  void transposed(const float* x, float* c) { down(x, c, kTransposed); }

 private:
  enum Way { kForward, kInverse, kTransposed };
  int levels_;
  static constexpr int kReach = 4;
  std::vector<WaveRect> rects_, planes_;  // all of each depth, and what is computed
  std::vector<size_t> starts_;
  size_t size_ = 0;
  std::vector<float> low_, whole_, strip_;

  static int up(int v, int d) { return int((int64_t(v) + (int64_t(1) << d) - 1) >> d); }
  static size_t band(int d, int o) { return size_t(3 * (d - 1) + o); }
  static int lows(int a, int b) { return (b + 1) / 2 - (a + 1) / 2; }
  static int highs(int a, int b) { return b / 2 - a / 2; }
  int rows(int d, int o) const {
    const WaveRect& r = rects_[size_t(d) - 1];
    return o >> 1 ? highs(r.y0, r.y1) : lows(r.y0, r.y1);
  }
  int columns(int d, int o) const {
    const WaveRect& r = rects_[size_t(d) - 1];
    return o & 1 ? highs(r.x0, r.x1) : lows(r.x0, r.x1);
  }
  // The part of each row of each band of depth d that lies in the plane before: where it lies there interleaved, every
  // other sample from `at`, and in its own array; of LL, in the plane of depth d.
  template <class F>
  void each(int d, F f) {
    const WaveRect &r = planes_[size_t(d) - 1], &all = rects_[size_t(d) - 1], &low = planes_[size_t(d)];
    for (int o = 0; o < 4; ++o) {
      const int v = o >> 1, u = o & 1;
      const int top = o ? first(all.y0, v) : low.y0, left = o ? first(all.x0, u) : low.x0;
      const int stride = o ? columns(d, o) : low.w();
      const int x = first(r.x0, u), n = u ? highs(r.x0, r.x1) : lows(r.x0, r.x1);
      for (int y = first(r.y0, v); 2 * y + v < r.y1; ++y)
        f(o, whole_.data() + size_t(2 * y + v - r.y0) * r.w() + (2 * x + u - r.x0),
          size_t(y - top) * stride + (x - left), n);
    }
  }
  // The first low or high value not before a sample.
  static int first(int sample, int high) { return high ? sample >> 1 : (sample + 1) >> 1; }
  void down(const float* x, float* c, Way way) {
    low_.assign(x, x + size_t(plane().h()) * plane().w());
    std::fill(c, c + size_, 0.f);
    for (int d = 1; d <= levels_; ++d) {
      both(low_.data(), planes_[size_t(d) - 1], way);
      whole_.swap(low_);
      low_.assign(size_t(planes_[size_t(d)].h()) * planes_[size_t(d)].w(), 0.f);
      each(d, [&](int o, const float* at, size_t to, int n) {
        float* target = (o ? c + starts_[band(d, o)] : low_.data()) + to;
        for (int k = 0; k < n; ++k) target[k] = at[2 * k];
      });
    }
    std::copy(low_.begin(), low_.end(), c);
  }
  static void lift(float* x, int n, size_t stride, int w, int first, float f) {
    for (int i = first; i < n; i += 2) {
      float* t = x + size_t(i) * stride;
      const float* p = x + size_t(i > 0 ? i - 1 : 1) * stride;
      const float* q = x + size_t(i + 1 < n ? i + 1 : n - 2) * stride;
      for (int k = 0; k < w; ++k) t[k] += f * (p[k] + q[k]);
    }
  }
  static void lift_transposed(float* x, int n, size_t stride, int w, int first, float f) {
    for (int i = first; i < n; i += 2) {
      const float* t = x + size_t(i) * stride;
      float* p = x + size_t(i > 0 ? i - 1 : 1) * stride;
      float* q = x + size_t(i + 1 < n ? i + 1 : n - 2) * stride;
      for (int k = 0; k < w; ++k) {
        p[k] += f * t[k];
        q[k] += f * t[k];
      }
    }
  }
  static void scale(float* x, int n, size_t stride, int w, int first, float f) {
    for (int i = first; i < n; i += 2)
      for (int k = 0; k < w; ++k) x[size_t(i) * stride + k] *= f;
  }
  // Lines of w samples, the first at coordinate `start`.
  static void lines(float* x, int n, size_t stride, int w, int start, Way way) {
    static const float f[4] = {-1.586134342f, -0.052980118f, 0.882911076f, 0.443506852f};
    static const float k = 1.230174105f;
    if (n == 1) return;
    const int low = start & 1, high = 1 - low;
    if (way == kForward) {
      for (int s = 0; s < 4; ++s) lift(x, n, stride, w, s % 2 ? low : high, f[s]);
      scale(x, n, stride, w, low, 1 / k), scale(x, n, stride, w, high, k / 2);
    } else if (way == kInverse) {
      scale(x, n, stride, w, low, k), scale(x, n, stride, w, high, 2 / k);
      for (int s = 3; s >= 0; --s) lift(x, n, stride, w, s % 2 ? low : high, -f[s]);
    } else {
      for (int s = 0; s < 4; ++s) lift_transposed(x, n, stride, w, s % 2 ? low : high, -f[s]);
      scale(x, n, stride, w, low, k), scale(x, n, stride, w, high, 2 / k);
    }
  }
  void across(float* x, int h, int w, int start, Way way) {
    static const int kRows = 8;
    strip_.resize(size_t(kRows) * w);
    for (int i = 0; i < h; i += kRows) {
      const int m = std::min(kRows, h - i);
      for (int k = 0; k < w; ++k)
        for (int j = 0; j < m; ++j) strip_[size_t(k) * kRows + j] = x[size_t(i + j) * w + k];
      lines(strip_.data(), w, kRows, m, start, way);
      for (int k = 0; k < w; ++k)
        for (int j = 0; j < m; ++j) x[size_t(i + j) * w + k] = strip_[size_t(k) * kRows + j];
    }
  }
  void both(float* x, const WaveRect& r, Way way) {
    if (r.h() <= 0 || r.w() <= 0) return;
    if (way == kInverse) across(x, r.h(), r.w(), r.x0, way);
    lines(x, r.h(), size_t(r.w()), r.w(), r.y0, way);
    if (way != kInverse) across(x, r.h(), r.w(), r.x0, way);
  }
};

// What is seen of a tile: samples of `seen`, each with a weight (0: says nothing).
class SeenTile {
 public:
  SeenTile(WaveRect tile, int levels, WaveRect seen) : wavelet(tile, levels, seen), seen_(seen) {
    samples_.resize(size_t(wavelet.plane().h()) * wavelet.plane().w());
  }
  TileWavelet wavelet;
  size_t count() const { return size_t(seen_.h()) * seen_.w(); }

  void synthesise(const float* c, float* out) {
    wavelet.inverse(c, samples_.data());
    for (int y = 0; y < seen_.h(); ++y) std::memcpy(out + size_t(y) * seen_.w(), row(y), sizeof(float) * seen_.w());
  }
  void transposed(const float* e, const float* weight, float* out) {
    std::fill(samples_.begin(), samples_.end(), 0.f);
    for (int y = 0; y < seen_.h(); ++y)
      for (int x = 0; x < seen_.w(); ++x) row(y)[x] = e[size_t(y) * seen_.w() + x] * weight[size_t(y) * seen_.w() + x];
    wavelet.transposed(samples_.data(), out);
  }
  // The free ones of c at the least of |samples - y|^2 / noise + sum of c^2 / variance: conjugate gradients.
  // energy: a coefficient's squared effect on what is seen.
  void fit(const float* y, const float* weight, float* c, const uint8_t* free, const float* variance,
           const float* energy, float noise, int steps) {
    const size_t n = wavelet.size();
    std::vector<float> e(count()), r(n), z(n), p(n), a(n), scale(n);
    std::vector<uint32_t> open;  // mostly few
    for (size_t i = 0; i < n; ++i)
      if (free[i]) open.push_back(uint32_t(i)), scale[i] = 1 / (energy[i] / noise + 1 / variance[i]);
    if (open.empty()) return;
    synthesise(c, e.data());
    for (size_t i = 0; i < e.size(); ++i) e[i] = y[i] - e[i];
    transposed(e.data(), weight, r.data());
    double rz = 0;
    for (uint32_t i : open) {
      r[i] = r[i] / noise - c[i] / variance[i];
      p[i] = z[i] = scale[i] * r[i];
      rz += double(r[i]) * z[i];
    }
    for (int k = 0; k < steps && rz > 1e-5 * double(open.size()); ++k) {
      synthesise(p.data(), e.data());
      transposed(e.data(), weight, a.data());
      double pa = 0;
      for (uint32_t i : open) {
        a[i] = a[i] / noise + p[i] / variance[i];
        pa += double(p[i]) * a[i];
      }
      const float step = float(rz / pa);
      double next = 0;
      for (uint32_t i : open) {
        c[i] += step * p[i], r[i] -= step * a[i], z[i] = scale[i] * r[i];
        next += double(r[i]) * z[i];
      }
      for (uint32_t i : open) p[i] = z[i] + float(next / rz) * p[i];
      rz = next;
    }
  }
  // Coefficients that are free are put at values a decoder gives (step, half, as comb_nearest has it), those of which
  // most is seen first: of each of `shares` those of at least that share; what is left is fitted again after each.
  // base: what was taken off c; step 0: left free.
  void settle(const float* y, const float* weight, float* c, uint8_t* free, const float* variance, const float* energy,
              float noise, int steps, const float* share, const float* step, const uint8_t* half, const float* base,
              const float* shares, size_t count) {
    for (size_t k = 0; k < count; ++k) {
      bool any = false;
      for (size_t i = 0; i < wavelet.size(); ++i) {
        if (!free[i] || share[i] < shares[k] || step[i] == 0) continue;
        const float value = c[i] + base[i], m = std::fabs(value) / step[i];
        c[i] = (m < 0.75f
                    ? 0
                    : std::copysign((half[i] ? comb_nearest<Comb::kHalf>(m) : comb_nearest<Comb::kMiddle>(m)) * step[i],
                                    value)) -
               base[i];
        free[i] = 0, any = true;
      }
      if (any) fit(y, weight, c, free, variance, energy, noise, steps);
    }
  }

 private:
  WaveRect seen_;
  std::vector<float> samples_;
  float* row(int y) {
    const WaveRect& t = wavelet.plane();
    return samples_.data() + size_t(seen_.y0 - t.y0 + y) * t.w() + (seen_.x0 - t.x0);
  }
};

}  // namespace dlpr
