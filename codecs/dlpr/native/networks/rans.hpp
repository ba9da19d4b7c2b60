// Entropy coder (docs/format section 10): rANS, 32-bit state, lower bound 2^23, bytes, total 65536.
#pragma once
#include <cstdint>
#include <utility>
#include <vector>

namespace dlpr {

constexpr uint32_t kRansLow = 1u << 23;

// Symbols are recorded in coding order and written in reverse by finish().
class LaneEncoder {
 public:
  void put(uint32_t start, uint32_t freq) { symbols_.push_back({start, freq}); }
  void put_uniform(uint32_t value, uint32_t count) {
    uint32_t a = uint32_t(uint64_t(65536) * value / count), b = uint32_t(uint64_t(65536) * (value + 1) / count);
    put(a, b - a);
  }
  void finish(std::vector<uint8_t>& out) const {
    std::vector<uint8_t> rev;
    rev.reserve(symbols_.size() / 2 + 8);
    uint32_t x = kRansLow;
    for (size_t i = symbols_.size(); i-- > 0;) {
      const uint32_t f = symbols_[i].second;
      for (uint64_t limit = uint64_t(f) << 15; x >= limit; x >>= 8) rev.push_back(uint8_t(x));
      x = ((x / f) << 16) + x % f + symbols_[i].first;
    }
    for (int k = 0; k < 4; ++k) out.push_back(uint8_t(x >> (8 * k)));
    out.insert(out.end(), rev.rbegin(), rev.rend());
  }

 private:
  std::vector<std::pair<uint32_t, uint32_t>> symbols_;
};

// Reads past the end give zero bytes and mark the lane bad; the caller asks ok() at the end.
class LaneDecoder {
 public:
  LaneDecoder() = default;
  LaneDecoder(const uint8_t* p, size_t n) : p_(p), end_(p + n) {
    if (n < 4) {
      bad_ = true, p_ = end_;
      return;
    }
    x_ = uint32_t(p[0]) | uint32_t(p[1]) << 8 | uint32_t(p[2]) << 16 | uint32_t(p[3]) << 24;
    p_ += 4;
    if (x_ < kRansLow || x_ >= 1u << 31) bad_ = true, x_ = kRansLow;
  }
  uint32_t slot() const { return x_ & 0xFFFF; }
  void take(uint32_t start, uint32_t freq) {
    x_ = freq * (x_ >> 16) + (x_ & 0xFFFF) - start;
    while (x_ < kRansLow) {
      if (p_ == end_) {
        bad_ = true, x_ |= kRansLow;
        return;
      }
      x_ = x_ << 8 | *p_++;
    }
  }
  uint32_t uniform(uint32_t count) {
    uint32_t s = slot(), v = uint32_t(uint64_t(s) * count >> 16);
    // the largest v with floor(65536 v / count) <= s
    while (v + 1 < count && uint64_t(65536) * (v + 1) / count <= s) ++v;
    uint32_t a = uint32_t(uint64_t(65536) * v / count), b = uint32_t(uint64_t(65536) * (v + 1) / count);
    take(a, b - a);
    return v;
  }
  bool bad() const { return bad_; }
  bool finished() const { return !bad_ && p_ == end_ && x_ == kRansLow; }

 private:
  const uint8_t* p_ = nullptr;
  const uint8_t* end_ = nullptr;
  uint32_t x_ = kRansLow;
  bool bad_ = false;
};

}  // namespace dlpr
