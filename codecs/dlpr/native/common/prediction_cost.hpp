// What coding pixels would cost at least, roughly: to see whether the networks can come near a JPEG's size.
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

namespace dlpr {

// Bits of the residuals of the median predictor (JPEG-LS) under their own distribution, channel by channel, after
// division into steps of 2 tau + 1 levels. x: [h][w][channels].
inline double prediction_bits(const uint8_t* x, int h, int w, int channels, int tau) {
  double bits = 0;
  const size_t row = size_t(w) * channels;
  for (int c = 0; c < channels; ++c) {
    std::array<uint32_t, 511> count{};
    for (int y = 1; y < h; ++y)
      for (int i = 1; i < w; ++i) {
        const uint8_t* p = x + y * row + size_t(i) * channels + c;
        const int a = p[-channels], b = p[-std::ptrdiff_t(row)], d = p[-std::ptrdiff_t(row) - channels];
        const int low = std::min(a, b), high = std::max(a, b);
        const int e = int(*p) - (d >= high ? low : d <= low ? high : a + b - d);
        const int q = (std::abs(e) + tau) / (2 * tau + 1);
        ++count[size_t(255 + (e < 0 ? -q : q))];
      }
    const double n = double(h - 1) * (w - 1);
    for (uint32_t k : count)
      if (k) bits -= k * std::log2(k / n);
  }
  return bits;
}

}  // namespace dlpr
