// Magnitudes to few levels, and other arithmetic of contexts (docs/format section 18).
// Python twin: codecs/dlpr/modes/mixed/levels.py.
#pragma once
#include <algorithm>
#include <cstdint>

namespace dlpr {

// Magnitudes to 12 levels: 0, 1, 2, 3, 4, 5-6, 7-8, 9-12, 13-20, 21-32, 33-63, 64 and above.
inline int level(int v) {
  static constexpr uint8_t levels[64] = {0,  1,  2,  3,  4,  5,  5,  6,  6,  7,  7,  7,  7,  8,  8,  8,
                                         8,  8,  8,  8,  8,  9,  9,  9,  9,  9,  9,  9,  9,  9,  9,  9,
                                         9,  10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10,
                                         10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10};
  return v > 63 ? 11 : levels[v];
}

// 40 levels: 0..7, then four for each doubling.
inline int fine_level(int v) {
  if (v < 8) return v;
  const int k = 31 - __builtin_clz(unsigned(v));
  return std::min(39, 4 * (k - 1) + (v >> (k - 2) & 3));
}

template <class T>
T floor_div(T a, T b) {  // b > 0
  return a >= 0 ? a / b : -((b - 1 - a) / b);
}
inline int limited(int v, int top) { return std::min(std::max(v, -top), top); }

}  // namespace dlpr
