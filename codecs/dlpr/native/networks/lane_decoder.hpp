// Decoder of one rANS lane (docs/format section 10). Always inlined: kernels of every instruction set use it.
#pragma once
#include <cstddef>
#include <cstdint>

namespace dlpr {

constexpr uint32_t kRansLow = 1u << 23;

// Reads past the end give zero bytes and mark the lane bad; the caller asks finished() at the end.
class LaneDecoder {
#define DLPR_INLINE inline __attribute__((always_inline))
 public:
  LaneDecoder() = default;
  DLPR_INLINE LaneDecoder(const uint8_t* p, size_t n) : p_(p), end_(p + n) {
    if (n < 4) {
      bad_ = true, p_ = end_;
      return;
    }
    x_ = uint32_t(p[0]) | uint32_t(p[1]) << 8 | uint32_t(p[2]) << 16 | uint32_t(p[3]) << 24;
    p_ += 4;
    if (x_ < kRansLow || x_ >= 1u << 31) bad_ = true, x_ = kRansLow;
  }
  DLPR_INLINE uint32_t slot() const { return x_ & 0xFFFF; }
  DLPR_INLINE void take(uint32_t start, uint32_t freq) {
    x_ = freq * (x_ >> 16) + (x_ & 0xFFFF) - start;
    if (end_ - p_ >= 2) {  // no, one or two bytes, without a branch that nobody can foresee: x >= 2^7 here
      const uint32_t bytes = uint32_t(x_ < kRansLow) + uint32_t(x_ < kRansLow >> 8);
      const uint32_t next = uint32_t(p_[0]) << 8 | p_[1];
      x_ = x_ << 8 * bytes | next >> (16 - 8 * bytes);
      p_ += bytes;
      return;
    }
    while (x_ < kRansLow) {
      if (p_ == end_) {
        bad_ = true, x_ |= kRansLow;
        return;
      }
      x_ = x_ << 8 | *p_++;
    }
  }
  DLPR_INLINE uint32_t uniform(uint32_t count) {
    const uint32_t s = slot();
    uint32_t v = uint32_t(uint64_t(s) * count >> 16);
    // the largest v with floor(65536 v / count) <= s
    while (v + 1 < count && uint64_t(65536) * (v + 1) / count <= s) ++v;
    const uint32_t a = uint32_t(uint64_t(65536) * v / count), b = uint32_t(uint64_t(65536) * (v + 1) / count);
    take(a, b - a);
    return v;
  }
  DLPR_INLINE bool bad() const { return bad_; }
  DLPR_INLINE bool finished() const { return !bad_ && p_ == end_ && x_ == kRansLow; }
#undef DLPR_INLINE

 private:
  const uint8_t* p_ = nullptr;
  const uint8_t* end_ = nullptr;
  uint32_t x_ = kRansLow;
  bool bad_ = false;
};

}  // namespace dlpr
