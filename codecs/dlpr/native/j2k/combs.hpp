// How well magnitudes stand on the comb of a quantiser (docs/decisions/0018-jpeg-2000-behind-pixels.md).
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace dlpr {

// Written without calls, so that loops over them are vectorised; |x| < 2^22.
inline float comb_rint(float x) { return (x + 12582912.f) - 12582912.f; }

// cos(2 pi x) to 1e-5.
inline float comb_cos(float x) {
  const float r = x - comb_rint(x), s = r * r;
  return 1.f +
         s * (-19.7392088f +
              s * (64.9393940f +
                   s * (-85.4568172f + s * (60.2446414f + s * (-26.4262568f + s * (7.90353642f + s * -1.7143907f))))));
}

// exp(-x) for x >= 0 to 1e-6; at most 2^-120 below.
inline float comb_exp(float x) {
  const float y = std::max(x * -1.44269504f, -120.f), k = comb_rint(y), f = y - k;
  const float p =
      1.f + f * (0.693147181f + f * (0.240226507f + f * (0.0555041087f + f * (0.00961812911f + f * 0.00133335581f))));
  const int32_t bits = (int32_t(k) + 127) * (1 << 23);
  float scale;
  std::memcpy(&scale, &bits, 4);
  return p * scale;
}

// What a decoder makes of k steps: the middle of what is open; likewise, but the lowest plane had its significance pass
// alone; k steps, rounded to whole units.
enum class Comb { kMiddle, kHalf, kPoint };

// The value a decoder gives, in steps, nearest to m steps that are not 0. unit: in steps.
template <Comb kComb>
inline float comb_nearest(float m, float unit = 0) {
  if (kComb == Comb::kPoint) {
    if (!(unit > 0)) return std::max(comb_rint(m), 1.f);
    const float k = std::max(comb_rint(m - 0.5f), 1.f), low = comb_rint(k / unit) * unit;
    const float high = comb_rint((k + 1) / unit) * unit;
    return m - low < high - m ? low : high;
  }
  if (kComb == Comb::kMiddle) return std::max(comb_rint(m - 0.5f), 1.f) + 0.5f;
  return m < 2.25f ? 1.5f : std::max(2 * comb_rint((m - 1) * 0.5f) + 1, 3.f);
}

// Nats by which "on the comb, noise, one outlier of a thousand" explains normed magnitudes better than "anywhere".
template <Comb kComb>
double comb_gain(const float* u, size_t n, float step, float noise, float unit) {
  const float density = 0.97f * step / (noise * 2.5066f), twice = 1.9997f * density, inverse = 1 / step;
  double total = 0;
  for (size_t first = 0; first < n; first += 64) {
    float p[64];
    const size_t count = std::min<size_t>(64, n - first);
    for (size_t i = 0; i < count; ++i) {
      const float m = u[first + i] * inverse;
      const float away = (m < (kComb == Comb::kPoint ? 0.5f : 0.75f) ? m : m - comb_nearest<kComb>(m, unit * inverse)) *
                         (step / noise);
      p[i] = (kComb == Comb::kHalf && m > 2.25f ? twice : density) * comb_exp(0.5f * away * away) + 0.001f;
    }
    double product = 1;  // each factor lies between 1e-3 and 1e4
    for (size_t i = 0; i < count; ++i) product *= p[i];
    total += std::log(product);
  }
  return total;
}

}  // namespace dlpr
