// Magnitudes to few levels, and other arithmetic of contexts (docs/format section 18).
#pragma once
#include "jpeg/zigzag.hpp"
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

inline int floor_div(int a, int b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }  // b > 0
inline int limited(int v, int top) { return std::min(std::max(v, -top), top); }

// Places of rows and columns 1..7 in zigzag order.
struct InteriorOrder {
  uint8_t z[49];
  InteriorOrder() {
    int n = 0;
    for (int k = 0; k < 64; ++k)
      if ((kZigzag[k] & 7) && kZigzag[k] >> 3) z[n++] = uint8_t(kZigzag[k]);
  }
};
inline const InteriorOrder kInterior;

}  // namespace dlpr
