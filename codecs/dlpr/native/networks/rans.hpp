// Entropy coder (docs/format section 10): rANS, 32-bit state, lower bound 2^23, bytes, total 65536.
#pragma once
#include "networks/lane_decoder.hpp"
#include <cstdint>
#include <utility>
#include <vector>

namespace dlpr {

// Symbols are recorded in coding order and written in reverse by finish().
class LaneEncoder {
 public:
  void reserve(size_t symbols) { symbols_.reserve(symbols); }
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

}  // namespace dlpr
