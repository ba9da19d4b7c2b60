// Where a codec's tiles begin in a crop (docs/decisions/0018-jpeg-2000-behind-pixels.md): one pass of the 9/7 wavelet
// at each parity, the comb of its coefficients, and lines of coefficients that stand beside it.
#pragma once
#include "j2k/combs.hpp"
#include <numeric>
#include <vector>

namespace dlpr {

class TileGrid {
 public:
  std::vector<int> rows, columns;  // where tiles begin
  float strengths[4] = {};         // of the comb at each parity (rows, columns), 1 at most

  // plane: h x w samples of one component.
  void find(const float* plane, int h, int w) {
    if (std::min(h, w) < 64) return;
    Band best[2];
    int parity[2] = {0, 0};
    float strength = 0;
    for (int down = 0; down < 2; ++down) {
      work_.assign(plane, plane + size_t(h) * w);
      lift(work_.data(), h, w, down);
      const int lows = (h - down + 1) / 2, highs = h - lows;
      const float scales[2] = {1 / kScale, kScale / 2};
      turn(work_.data() + size_t(down) * w, lows, w, scales[0], &turned_[0]);
      turn(work_.data() + size_t(1 - down) * w, highs, w, scales[1], &turned_[1]);
      for (int across = 0; across < 2; ++across) {
        Band bands[2];  // HL, LH, each turned: columns of the plane are their lines
        for (int o = 0; o < 2; ++o) {
          const int n = o ? highs : lows;
          line_ = turned_[o];
          lift(line_.data(), w, n, across);
          const int first = o ? across : 1 - across;
          Band& b = bands[o];
          b.h = (w - first + 1) / 2, b.w = n;
          b.values.resize(size_t(b.h) * n);
          for (int i = 0; i < b.h; ++i)
            for (int k = 0; k < n; ++k)
              b.values[size_t(i) * n + k] = line_[size_t(2 * i + first) * n + k] * scales[1 - o];
          comb(&b);
        }
        const float now = std::max(bands[0].strength, bands[1].strength);
        strengths[2 * down + across] = now;
        if (now > strength || best[0].values.empty()) {
          strength = now, parity[0] = down, parity[1] = across;
          std::swap(best, bands);
        }
      }
    }
    if (strength < kLeastComb) return;
    rows = borders(best[1], true, parity[0]);
    columns = borders(best[0], false, parity[1]);
  }

 private:
  static constexpr float kScale = 1.230174105f;
  static constexpr float kNoise = 0.8f;         // levels below which a coefficient may be the rounding of pixels
  static constexpr float kLeastBorder = 0.75f;  // score of a border, 4 at most; 0.1 to 0.5 is chance
  static constexpr float kLeastComb = 0.3f;     // strength below which borders are not looked for
  static constexpr int kEdge = 6;               // a border so near to the crop's edge is not told from it
  struct Band {
    int h = 0, w = 0;
    float strength = 0, step = 0;
    std::vector<float> values;
  };
  std::vector<float> work_, line_, turned_[2], sample_;

  // One pass along the first axis, without its scale; low lines where index + parity is even.
  static void lift(float* x, int n, int w, int parity) {
    static const float f[4] = {-1.586134342f, -0.052980118f, 0.882911076f, 0.443506852f};
    for (int s = 0; s < 4; ++s)
      for (int i = s % 2 ? parity : 1 - parity; i < n; i += 2) {
        float* t = x + size_t(i) * w;
        const float* p = x + size_t(i > 0 ? i - 1 : 1) * w;
        const float* q = x + size_t(i + 1 < n ? i + 1 : n - 2) * w;
        for (int k = 0; k < w; ++k) t[k] += f[s] * (p[k] + q[k]);
      }
  }
  // Every other of 2 n lines, scaled and turned: w lines of n.
  static void turn(const float* x, int n, int w, float scale, std::vector<float>* out) {
    out->resize(size_t(n) * w);
    static const int kBlock = 16;
    for (int i0 = 0; i0 < n; i0 += kBlock)
      for (int k0 = 0; k0 < w; k0 += kBlock)
        for (int i = i0; i < std::min(n, i0 + kBlock); ++i)
          for (int k = k0; k < std::min(w, k0 + kBlock); ++k)
            (*out)[size_t(k) * n + i] = x[size_t(2 * i) * w + k] * scale;
  }
  static float median(std::vector<float> v) {
    const size_t half = v.size() / 2;
    std::nth_element(v.begin(), v.begin() + long(half), v.end());
    if (v.size() % 2) return v[half];
    return (v[half] + *std::max_element(v.begin(), v.begin() + long(half))) / 2;
  }
  static float strength_of(const float* v, size_t n, float step) {
    const float inverse = 1 / step;
    float part[16] = {};
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
      for (int k = 0; k < 16; ++k) part[k] += comb_cos(v[i + size_t(k)] * inverse);
    float total = std::accumulate(part, part + 16, 0.f);
    for (; i < n; ++i) total += comb_cos(v[i] * inverse);
    return -total / float(n);
  }
  // Strength and step of the best comb.
  void comb(Band* b) {
    static const int kMargin = 4, kSteps = 160, kFew = 256;
    sample_.resize(b->values.size() + 1);
    size_t n = 0;
    for (int i = kMargin; i < b->h - kMargin; ++i)
      for (int k = kMargin; k < b->w - kMargin; ++k) {
        const float v = std::fabs(b->values[size_t(i) * b->w + k]);
        sample_[n] = v;
        n += v > kNoise;
      }
    if (n < 30) return;
    const size_t apart = n / 1500 + 1, left = (n + apart - 1) / apart;
    for (size_t i = 0; i < left; ++i) sample_[i] = sample_[i * apart];
    sample_.resize(left);
    const float most = median(sample_) * 1.1f;
    // A sample of them first: what is far from a comb under it is far from one.
    std::vector<float> few;
    for (size_t i = 0; i < left; i += left / kFew + 1) few.push_back(sample_[i]);
    float best = 0;
    for (int i = 0; i < kSteps; ++i) {
      const float step = 0.7f * std::pow(24 / 0.7f, float(i) / (kSteps - 1));
      if (!(most > step)) break;
      if (strength_of(few.data(), few.size(), step) < kLeastComb - 0.2f) continue;
      const float now = strength_of(sample_.data(), left, step);
      if (now > best) best = now, b->strength = now, b->step = step;
    }
  }
  // Where tiles begin: lines of a turned band (or what lies across them) of which more stands beside the comb.
  static std::vector<int> borders(const Band& b, bool turned, int parity) {
    std::vector<int> out;
    if (b.step == 0) return out;
    const int lines = turned ? b.w : b.h;
    std::vector<float> share(size_t(lines), 0.f), score(size_t(lines), 0.f);
    const float far = std::min(0.5f, 0.3f * b.step), inverse = 1 / b.step;
    for (int i = 0; i < b.h; ++i)
      for (int k = 0; k < b.w; ++k) {
        const float m = std::fabs(b.values[size_t(i) * b.w + k]) * inverse;
        const float away = m < 0.75f ? m : std::fabs(m - comb_nearest<Comb::kMiddle>(m));
        share[size_t(turned ? k : i)] += away * b.step > far ? 1.f : 0.f;
      }
    for (float& v : share) v /= float(turned ? b.h : b.w);
    const float usual = median(share);
    for (int i = 1; i + 1 < lines; ++i)
      score[size_t(i)] = share[size_t(i) - 1] + 2 * share[size_t(i)] + share[size_t(i) + 1] - 4 * usual;
    std::vector<int> order(size_t(lines), 0);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int p, int q) { return score[size_t(p)] > score[size_t(q)]; });
    for (int j = 0; j < std::min(8, lines); ++j) {
      const int i = order[size_t(j)],
                border = 2 * i + 2 - parity;  // the high line before it is the middle one of three
      bool near = border < kEdge || border > 2 * lines - kEdge;
      for (int other : out) near |= std::abs(border - other) < 2 * kEdge;
      if (score[size_t(i)] >= kLeastBorder && !near) out.push_back(border);
    }
    std::sort(out.begin(), out.end());
    return out;
  }
};

}  // namespace dlpr
