// What coefficients would take, estimated for the search of spend.hpp. Not the coder: near enough to compare choices.
#pragma once
#include <cmath>
#include <cstdlib>
#include <vector>

#include "jpeg/image.hpp"

namespace dlpr {

// Logarithms to base 2 in 1/65536, in integers: the encoder's choices are the same with every math library.
inline int64_t log2_fixed(uint32_t v) {
  struct Table {
    int32_t at[4096];
    Table() {
      for (int i = 0; i < 4096; ++i) at[i] = int32_t(std::lrint(65536 * std::log2(1 + (i + 0.5) / 4096)));
    }
  };
  static const Table table;
  int whole = 0;
  for (int i = 16; i; i >>= 1)
    if (v >> (whole + i)) whole += i;
  const uint32_t part = whole > 12 ? v >> (whole - 12) : v << (12 - whole);
  return (int64_t(whole) << 16) + table.at[part & 4095];
}

// Magnitudes as unary flags with counted probabilities, by place in the block and what stands around it.
class SpendPrice {
 public:
  static constexpr int kUnit = 256;  // of a bit

  // Blocks beside a block and, where sampling is equal, those of the other components at its place.
  struct Around {
    const int16_t* beside[4];
    const int16_t* other[2];
  };

  explicit SpendPrice(const JpegFields& f) : f_(f), price_(size_t(3) * 64 * kContexts * kValues) {}

  // Coefficients of a block; null beyond the plane.
  static const int16_t* block(const JpegFields& f, const std::vector<int16_t>* q, int c, int y, int x) {
    const bool inside = y >= 0 && x >= 0 && y < f.rows(c) && x < f.cols(c);
    return inside ? q[c].data() + (size_t(y) * f.cols(c) + x) * 64 : nullptr;
  }

  Around around(const std::vector<int16_t>* q, int c, int y, int x) const {
    Around a = {
        {block(f_, q, c, y - 1, x), block(f_, q, c, y, x - 1), block(f_, q, c, y + 1, x), block(f_, q, c, y, x + 1)},
        {nullptr, nullptr}};
    if (f_.components == 3 && !f_.subsampled())
      a.other[0] = block(f_, q, (c + 1) % 3, y, x), a.other[1] = block(f_, q, (c + 2) % 3, y, x);
    else if (c) a.other[0] = a.other[1] = block(f_, q, 3 - c, y, x);
    return a;
  }

  // Prices of the values at place z, 1..63, of component c with what stands around it: an index for `bits`.
  size_t place(int c, int z, const int16_t* b, const Around& a) const {
    const int v = z >> 3, u = z & 7;
    int near = 0, side = 0, over = 0;
    if (u > (v ? 0 : 1)) near += std::abs(b[z - 1]);
    if (u < 7) near += std::abs(b[z + 1]);
    if (v > (u ? 0 : 1)) near += std::abs(b[z - 8]);
    if (v < 7) near += std::abs(b[z + 8]);
    for (const int16_t* s : a.beside) side += s ? std::abs(s[z]) : 0;
    if (a.other[0]) over = std::abs(a.other[0][z]) + std::abs(a.other[1][z]);
    const int context = 4 * level(near + (side >> 1)) + (over < 2 ? over : over < 4 ? 2 : 3);
    return ((size_t(c) * 64 + z) * kContexts + context) * kValues;
  }

  // Price of a value with its sign, in 1/256 bit.
  int bits(size_t place, int value) const {
    const int v = std::abs(value), last = kValues - 1;
    const int32_t* p = &price_[place];
    return v <= last ? p[v] : p[last] + (v - last) * (p[last] - p[last - 1]);
  }

  // Count what the coefficients are.
  void learn(const std::vector<int16_t>* q) {
    const size_t places = price_.size() / kValues;
    std::vector<uint32_t> n(places * kFlags * 2, 0);
    for (int c = 0; c < f_.components; ++c)
      for (int y = f_.first_row(c); y < f_.end_row(c); ++y)
        for (int x = f_.first_col(c); x < f_.end_col(c); ++x) {
          const int16_t* b = block(f_, q, c, y, x);
          const Around a = around(q, c, y, x);
          for (int z = 1; z < 64; ++z) {
            uint32_t* m = &n[place(c, z, b, a) / kValues * kFlags * 2];
            const int v = std::min(std::abs(int(b[z])), 40);
            for (int i = 0; i <= v; ++i) ++m[2 * std::min(i, kFlags - 1) + (v > i)];
          }
        }
    for (int c = 0; c < f_.components; ++c) set(n.data() + size_t(c) * 64 * kContexts * kFlags * 2, c);
  }

 private:
  static constexpr int kContexts = 48, kValues = 16, kFlags = 5;  // flags: above 0, 1, 2, 3, and all further ones

  static int level(int m) {
    static const uint8_t t[41] = {0, 1, 2, 3, 4,  5,  5,  6,  6,  7,  7,  7,  8,  8,  8,  8,  8,  9,  9,  9, 9,
                                  9, 9, 9, 9, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10};
    return m > 40 ? 11 : t[m];
  }

  // Prices of a component from its counts [64][kContexts][kFlags][no, yes]: few of a place's own lean on those of all.
  void set(const uint32_t* n, int c) {
    const size_t one = size_t(kContexts) * kFlags * 2;
    std::vector<uint64_t> all(one, 0);
    for (int z = 1; z < 64; ++z)
      for (size_t i = 0; i < one; ++i) all[i] += n[z * one + i];
    for (int z = 1; z < 64; ++z)
      for (int k = 0; k < kContexts; ++k) {
        int yes[kFlags], no[kFlags];
        for (int i = 0; i < kFlags; ++i) {
          const size_t at = (size_t(k) * kFlags + i) * 2;
          const uint64_t common = (2 * all[at + 1] + 1) * 65536 / (2 * (all[at] + all[at + 1]) + 3);
          const uint64_t own[2] = {n[z * one + at], n[z * one + at + 1]};
          const uint64_t p = ((own[1] << 16) + 8 * common) / (own[0] + own[1] + 8);
          const uint32_t safe = uint32_t(std::min<uint64_t>(std::max<uint64_t>(p, 16), 65520));
          yes[i] = int(((16 << 16) - log2_fixed(safe)) >> 8), no[i] = int(((16 << 16) - log2_fixed(65536 - safe)) >> 8);
        }
        int32_t* out = &price_[((size_t(c) * 64 + z) * kContexts + k) * kValues];
        for (int v = 0, sum = 0; v < kValues; ++v) {
          const int flag = std::min(v, kFlags - 1);
          out[v] = sum + no[flag] + (v ? kUnit : 0), sum += yes[flag];
        }
      }
  }

  const JpegFields& f_;
  std::vector<int32_t> price_;
};

}  // namespace dlpr
