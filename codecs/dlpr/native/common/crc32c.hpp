// CRC32C (docs/format section 2). NumPy twin: codecs/dlpr/crc.py.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>

namespace dlpr {

// CRC of n bytes, continued from value (0 to begin); eight bytes at a time, by tables.
inline uint32_t crc32c(const uint8_t* p, size_t n, uint32_t value) {
  static const auto table = [] {
    std::array<std::array<uint32_t, 256>, 8> t{};
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t c = i;
      for (int k = 0; k < 8; ++k) c = c & 1 ? (c >> 1) ^ 0x82F63B78u : c >> 1;
      t[0][i] = c;
    }
    for (uint32_t i = 0; i < 256; ++i)
      for (int k = 1; k < 8; ++k) t[k][i] = (t[k - 1][i] >> 8) ^ t[0][t[k - 1][i] & 255];
    return t;
  }();
  uint32_t c = ~value;
  for (; n >= 8; n -= 8, p += 8) {
    c ^= uint32_t(p[0]) | uint32_t(p[1]) << 8 | uint32_t(p[2]) << 16 | uint32_t(p[3]) << 24;
    c = table[7][c & 255] ^ table[6][c >> 8 & 255] ^ table[5][c >> 16 & 255] ^ table[4][c >> 24] ^ table[3][p[4]] ^
        table[2][p[5]] ^ table[1][p[6]] ^ table[0][p[7]];
  }
  for (; n; --n, ++p) c = (c >> 8) ^ table[0][(c ^ *p) & 255];
  return ~c;
}

}  // namespace dlpr
