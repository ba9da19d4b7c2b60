// Small numbers of no known distribution, coded with bits that adapt: what a codestream holds beside its coefficients.
#pragma once
#include "mixed/arith.hpp"
#include <string>

namespace dlpr {

constexpr int kNumberKinds = 16;

// Kinds of numbers.
enum J2kNumber {
  kPartPackets,
  kRestBytes,
  kTreeValue,
  kOddHeader,
  kHeaderLength,
  kEmptyBit,
  kFirstLayer,
  kLayerPasses,
  kPlainSegment,
  kOddSegment,
  kSegmentLength,
  kPieceLength,
  kRawLength,
  kHead,
};

// Written or read with the same calls; a reader ignores the values given.
template <class Bits>
class Numbers {
 public:
  static constexpr bool kReads = Bits::kDecodes;
  explicit Numbers(Bits& bits) : bits_(bits) {
    for (auto& kind : one_) std::fill(std::begin(kind), std::end(kind), uint16_t(1 << 15));
  }
  int flag(int kind, int bit) { return adaptive(one_[kind][0], bit); }
  // Exp-Golomb: the number of bits in unary, then the bits.
  uint32_t number(int kind, uint32_t v) {
    int width = 0;
    if (!kReads)
      while ((uint64_t(v) + 1) >> (width + 1)) ++width;
    int n = 0;
    while (n < 31 && adaptive(one_[kind][n], n < width)) ++n;
    uint64_t out = 1;
    for (int i = n - 1; i >= 0; --i) {
      const int bit = int((uint64_t(v) + 1) >> i & 1);
      out = out << 1 | uint64_t(i == n - 1 ? adaptive(one_[kind][32 + n], bit) : bits_.code(bit, 1 << 15));
    }
    return uint32_t(out - 1);
  }
  int32_t difference(int kind, int32_t v) {
    const uint32_t z = number(kind, v < 0 ? uint32_t(-(v + 1)) * 2 + 1 : uint32_t(v) * 2);
    return z & 1 ? -int32_t(z >> 1) - 1 : int32_t(z >> 1);
  }
  // One of `count` values that are equally likely.
  uint32_t uniform(uint32_t count, uint32_t v) {
    uint32_t low = 0;
    while (count > 1) {
      const uint32_t half = (count + 1) / 2;
      const uint32_t one = std::max(1u, std::min(65535u, uint32_t((uint64_t(count - half) << 16) / count)));
      const int bit = bits_.code(v >= low + half, one);
      if (bit) low += half, count -= half;
      else count = half;
    }
    return low;
  }
  bool overrun() const { return bits_.overrun(); }

 private:
  int adaptive(uint16_t& one, int bit) {
    bit = bits_.code(bit, one);
    if (bit) one = uint16_t(one + ((65504 - one) >> 4));
    else one = uint16_t(one - ((one - 32) >> 4));
    return bit;
  }
  Bits& bits_;
  uint16_t one_[kNumberKinds][64];
};

// What stands in for a stream of numbers where a codestream is written afresh: every answer is the plainest one.
struct PlainBits {
  static constexpr bool kDecodes = true;
};

template <>
class Numbers<PlainBits> {
 public:
  static constexpr bool kReads = true;
  explicit Numbers(PlainBits&) {}
  int flag(int kind, int) { return kind == kPlainSegment; }
  uint32_t number(int, uint32_t) { return 0; }
  int32_t difference(int, int32_t) { return 0; }
  uint32_t uniform(uint32_t, uint32_t) { return 0; }
  bool overrun() const { return false; }
};

}  // namespace dlpr
