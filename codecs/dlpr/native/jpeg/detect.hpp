// Was this decoded from a JPEG? Grid, colour transform, chroma sampling and quantisation tables, from pixels alone
// (docs/decisions/0008-recovered-jpeg.md). Floating point chooses; what is chosen is checked by synthesis.
#pragma once
#include "jpeg/image.hpp"
#include "jpeg/planes.hpp"
#include <array>
#include <cmath>

namespace dlpr {

// IJG's standard tables (ITU-T T.81 annex K), natural order, scaled to a quality.
inline void standard_table(bool chroma, int quality, uint16_t* out) {
  static const uint8_t luma[64] = {16, 11, 10, 16, 24,  40,  51,  61,  12, 12, 14, 19, 26,  58,  60,  55,
                                   14, 13, 16, 24, 40,  57,  69,  56,  14, 17, 22, 29, 51,  87,  80,  62,
                                   18, 22, 37, 56, 68,  109, 103, 77,  24, 35, 55, 64, 81,  104, 113, 92,
                                   49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99};
  static const uint8_t other[16] = {17, 18, 24, 47, 18, 21, 26, 66, 24, 26, 56, 99, 47, 66, 99, 99};
  const int scale = quality < 50 ? 5000 / quality : 200 - 2 * quality;
  for (int k = 0; k < 64; ++k) {
    const int base = !chroma ? luma[k] : k / 8 < 4 && k % 8 < 4 ? other[k / 8 * 4 + k % 8] : 99;
    out[k] = uint16_t(std::min(std::max((base * scale + 50) / 100, 1), 255));
  }
}

// Gain in nats of "coefficients stand on multiples of q, noise of deviation s, some outliers" over "anywhere".
class CombGain {
 public:
  // `wrapped`: noise that reaches the next multiple counts for that one, so that steps of 1 say nothing, not less.
  explicit CombGain(float s, bool wrapped = false) : gain_(256 * kBins) {
    for (int q = 1; q < 256; ++q)
      for (int b = 0; b < kBins; ++b) {
        const double r = (b + 0.5) * kWidth;
        double sum = std::exp(-r * r / (2 * s * s));
        if (wrapped)
          for (double d : {q - r, q + r}) sum += std::exp(-d * d / (2 * s * s));
        gain_[q * kBins + b] = float(std::log(0.92 * q * sum / (s * 2.50662827) + 0.08));
      }
  }
  float operator()(float a, int q) const {  // a = |coefficient|
    const float r = std::fabs(a - std::floor(a / float(q) + 0.5f) * float(q));
    return gain_[q * kBins + std::min(int(r * (1 / kWidth)), kBins - 1)];
  }

 private:
  static constexpr int kBins = 128;
  static constexpr float kWidth = 1 / 32.f;
  std::vector<float> gain_;
};

// The gain of n coefficients that leaves no doubt about a step.
inline double clearly(const CombGain& gain, int q, size_t n) { return 0.4 * double(gain(0, q)) * double(n); }

struct TableGuess {
  uint16_t q[64] = {};
  int quality = 0;   // of the standard table, 0 = none
  int nearest = 75;  // quality of the standard table that fits best
  float mean = -1;   // gain for each coefficient that is not near zero, nats
  int count = 0;     // such coefficients
};

inline float median(std::vector<float>& v) {
  std::nth_element(v.begin(), v.begin() + v.size() / 2, v.end());
  return v[v.size() / 2];
}

// The table under which coefficients [n][64] look quantised. Those below `threshold` say nothing.
// `around` a quality: only standard tables near it are tried. `likely`: a quality to take if others fit hardly better.
inline TableGuess guess_table(const std::vector<std::array<float, 64>>& blocks, bool chroma, const CombGain& gain,
                              float threshold, int around = 0, int likely = 0) {
  std::vector<float> by[64];
  TableGuess best;
  for (const auto& b : blocks) {
    bool any = false;
    for (int k = 1; k < 64; ++k)
      if (std::fabs(b[k]) > threshold) by[k].push_back(std::fabs(b[k])), ++best.count, any = true;
    // In a constant block every sample is rounded alike, so that its mean is off by up to half a level.
    if (any && std::fabs(b[0]) > threshold) by[0].push_back(std::fabs(b[0])), ++best.count;
  }
  if (best.count < 20) return best;
  double standard[64] = {}, total_best = -1e30;
  const int from = around ? std::max(around - 2, 10) : 10, to = around ? std::min(around + 2, 100) : 100;
  for (int quality = from; quality <= to; ++quality) {
    uint16_t q[64];
    standard_table(chroma, quality, q);
    double each[64] = {}, total = 0;
    for (int k = 0; k < 64; ++k) {
      for (float a : by[k]) each[k] += gain(a, q[k]);
      total += each[k];
    }
    if (quality == likely) total += 8;
    if (total > total_best) {
      total_best = total, best.quality = best.nearest = quality;
      std::copy_n(q, 64, best.q), std::copy_n(each, 64, standard);
    }
  }
  best.mean = float(total_best / best.count);
  if (around) return best;
  // Frequencies with a step of their own.
  const bool fits = total_best / best.count > 0.1;
  double total = 0;
  for (int k = 0; k < 64; ++k) {
    double top = -1e30;
    int step = best.q[k];
    if (by[k].size() >= 4 && median(by[k]) > 2.5f * threshold) {
      const int limit = std::min(255, int(*std::max_element(by[k].begin(), by[k].end()) + 2));
      for (int q = 1; q <= limit; ++q) {
        double g = 0;
        for (float a : by[k]) g += gain(a, q);
        if (g > top) top = g, step = q;
      }
    }
    if (top > standard[k] + (fits ? 12 : 0) &&
        (!fits || (standard[k] <= clearly(gain, best.q[k], by[k].size()) && top > clearly(gain, step, by[k].size()))))
      best.q[k] = uint16_t(step), total += top, best.quality = 0;
    else total += standard[k];
  }
  best.mean = float(total / best.count);
  return best;
}

// Samples that are 0 or 255 may have been cut off: they say nothing of coefficients.
class ClippedCount {
 public:
  ClippedCount(const uint8_t* x, int h, int w, int channels) : w_(w + 1), sum_(size_t(h + 1) * (w + 1)) {
    for (int y = 0; y < h; ++y)
      for (int c = 0; c < w; ++c) {
        bool clipped = false;
        for (int k = 0; k < channels; ++k) {
          const uint8_t v = x[(size_t(y) * w + c) * channels + k];
          clipped = clipped || v == 0 || v == 255;
        }
        sum_[size_t(y + 1) * w_ + c + 1] =
            sum_[size_t(y) * w_ + c + 1] + sum_[size_t(y + 1) * w_ + c] - sum_[size_t(y) * w_ + c] + (clipped ? 1 : 0);
      }
  }
  int in(int y0, int x0, int y1, int x1) const {
    return sum_[size_t(y1) * w_ + x1] - sum_[size_t(y0) * w_ + x1] - sum_[size_t(y1) * w_ + x0] +
           sum_[size_t(y0) * w_ + x0];
  }

 private:
  size_t w_;
  std::vector<int> sum_;
};

// Where 8x8 blocks begin (row and column, 0..7), most likely first; empty if nothing was quantised. At the right
// place more coefficients of each frequency are near zero than at the 63 others.
// `least`: how clearly.
inline std::vector<int> guess_grid(const FloatPlane& p, const ClippedCount& clipped, float least = 0.8f) {
  struct Anchor {
    int y, x;
    float variance;
  };
  std::vector<Anchor> anchors;
  const int stride = int64_t(p.h) * p.w > 128 * 128 ? 16 : 8;
  for (int allowed : {0, 4, 16}) {
    anchors.clear();
    for (int y = 0; y + 15 <= p.h; y += stride)
      for (int x = 0; x + 15 <= p.w; x += stride) {
        if (clipped.in(y, x, y + 15, x + 15) > allowed) continue;
        float s = 0, s2 = 0;
        for (int r = 0; r < 15; ++r)
          for (int c = 0; c < 15; ++c) {
            const float v = p.row(y + r)[x + c];
            s += v, s2 += v * v;
          }
        const float variance = (s2 - s * s / 225) / 225;
        if (variance > 0.5f) anchors.push_back({y, x, variance});
      }
    if (anchors.size() >= 24) break;
  }
  if (anchors.size() < 12) return {};
  std::sort(anchors.begin(), anchors.end(), [](const Anchor& a, const Anchor& b) {
    return a.variance != b.variance ? a.variance > b.variance : a.y != b.y ? a.y < b.y : a.x < b.x;
  });
  const size_t n = std::min<size_t>(96, anchors.size());
  if (anchors.size() >= 2 * n)  // every other one: less of the same edge
    for (size_t i = 0; i < n; ++i) anchors[i] = anchors[2 * i];
  anchors.resize(n);
  static thread_local float zero[64][64];
  for (int g = 0; g < 64; ++g) {
    int count[64] = {};
    for (const Anchor& a : anchors) {
      float c[64];
      dct()(p.row(a.y + g / 8) + a.x + g % 8, p.w, c);
      for (int k = 1; k < 64; ++k) count[k] += std::fabs(c[k]) < 0.75f;
    }
    for (int k = 1; k < 64; ++k) zero[g][k] = float(count[k]) / float(n);
  }
  std::array<float, 64> score{};
  for (int k = 1; k < 64; ++k) {
    float mean = 0, square = 0;
    for (int g = 0; g < 64; ++g) mean += zero[g][k] / 64, square += zero[g][k] * zero[g][k] / 64;
    const float deviation = std::sqrt(std::max(square - mean * mean, 0.f)) + 0.02f;
    for (int g = 0; g < 64; ++g) score[g] += (zero[g][k] - mean) / deviation / 63;
  }
  std::vector<int> order(64);
  for (int g = 0; g < 64; ++g) order[g] = g;
  std::sort(order.begin(), order.end(),
            [&](int a, int b) { return score[a] != score[b] ? score[a] > score[b] : a < b; });
  if (score[order[0]] < least) return {};
  order.resize(score[order[1]] > 0.4f * score[order[0]] ? 2 : 1);
  return order;
}

// The same for images that are almost flat: most blocks of their JPEG are constant, so that samples change at the
// blocks' edges only. -1 if they do not.
inline int guess_flat_grid(const FloatPlane& p) {
  int down[8] = {}, across[8] = {};
  for (int y = 0; y < p.h; ++y)
    for (int x = 0; x < p.w; ++x) {
      if (x) across[x % 8] += p.row(y)[x] != p.row(y)[x - 1];
      if (y) down[y % 8] += p.row(y)[x] != p.row(y - 1)[x];
    }
  auto edge = [](const int* count) {
    const int top = int(std::max_element(count, count + 8) - count);
    int rest = 0;
    for (int i = 0; i < 8; ++i) rest += i == top ? 0 : count[i];
    return count[top] >= 64 && 3 * count[top] > rest ? top : -1;  // chance: a seventh
  };
  const int y = edge(down), x = edge(across);
  return y < 0 || x < 0 ? -1 : 8 * y + x;
}

// Standard table of an almost flat image, from the levels that its constant blocks take (a step leaves 8 of them for
// each `step` levels) and from the few coefficients there are. Blocks begin at (y0, x0) of every plane.
inline TableGuess guess_flat_table(const std::vector<const FloatPlane*>& planes, int y0, int x0,
                                   const ClippedCount& clipped, const CombGain& gain, float threshold,
                                   bool chroma = false) {
  std::vector<float> by[64];
  std::vector<std::array<bool, 256>> levels;
  for (const FloatPlane* p : planes) {
    std::array<int, 256> count{};
    for (int y = y0; y + 8 <= p->h; y += 8)
      for (int x = x0; x + 8 <= p->w; x += 8) {
        const float first = p->row(y)[x];
        bool constant = true;
        for (int i = 0; i < 8 && constant; ++i)
          for (int k = 0; k < 8; ++k) constant = constant && p->row(y + i)[x + k] == first;
        if (constant) {
          ++count[size_t(std::min(std::max(first + 128, 0.f), 255.f))];
          continue;
        }
        if (clipped.in(y, x, y + 8, x + 8)) continue;
        float d[64];
        dct()(p->row(y) + x, p->w, d);
        for (int k = 1; k < 64; ++k)
          if (std::fabs(d[k]) > threshold) by[k].push_back(std::fabs(d[k]));
      }
    levels.emplace_back();
    for (int v = 1; v < 255; ++v) levels.back()[size_t(v)] = count[size_t(v)] >= 2;
  }
  TableGuess best;
  double top = 3;  // nats; little, but the synthesis is compared with the pixels
  for (int quality = 10; quality <= 95; ++quality) {
    uint16_t q[64];
    standard_table(chroma, quality, q);
    std::array<bool, 256> possible{};
    for (int k = -1024; k <= 1024; ++k)
      possible[size_t(std::min(std::max(((4 * k * q[0] + 16) >> 5) + 128, 0), 255))] = true;
    double score = 0;
    for (const auto& level : levels)
      for (int v = 1; v < 255; ++v)
        if (level[size_t(v)]) score += possible[size_t(v)] ? std::log(std::max(q[0] / 8.0, 1.0)) : -6;
    for (int k = 1; k < 64; ++k)
      for (float a : by[k]) score += gain(a, q[k]);
    if (score > top) {
      top = score, best.quality = best.nearest = quality, best.count = 20,
      best.mean = float(score / double(planes.size()));
      std::copy_n(q, 64, best.q);
    }
  }
  return best;
}

}  // namespace dlpr
