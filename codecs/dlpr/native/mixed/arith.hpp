// Binary arithmetic coding and the tables of mixed bits (docs/format section 17), integers only.
// Python twin: codecs/dlpr/modes/mixed/arithmetic.py.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <vector>

namespace dlpr {

// Invariant of both sides: what is left of the interval is low..high, whose first bytes differ.
class BitEncoder {
 public:
  static constexpr bool kDecodes = false;
  // `one`: probability of a 1 in 1/65536, 1..65535.
  int code(int bit, uint32_t one) {
    const uint32_t mid = low_ + uint32_t(uint64_t(high_ - low_) * one >> 16);
    low_ = bit ? low_ : mid + 1, high_ = bit ? mid : high_;
    while (!((low_ ^ high_) & 0xFF000000u)) {
      out_.push_back(uint8_t(high_ >> 24));
      low_ <<= 8, high_ = high_ << 8 | 255;
    }
    return bit;
  }
  const std::vector<uint8_t>& finish() {
    out_.push_back(uint8_t(high_ >> 24));  // with zero bytes behind it a number in the interval
    return out_;
  }
  bool overrun() const { return false; }

 private:
  uint32_t low_ = 0, high_ = 0xFFFFFFFFu;
  std::vector<uint8_t> out_;
};

class BitDecoder {
 public:
  static constexpr bool kDecodes = true;
  BitDecoder(const uint8_t* p, size_t n) : p_(p), n_(n) {
    for (int i = 0; i < 4; ++i) next();
  }
  int code(int, uint32_t one) {
    const uint32_t mid = low_ + uint32_t(uint64_t(high_ - low_) * one >> 16);
    const int bit = x_ <= mid;
    low_ = bit ? low_ : mid + 1, high_ = bit ? mid : high_;
    while (!((low_ ^ high_) & 0xFF000000u)) low_ <<= 8, high_ = high_ << 8 | 255, next();
    return bit;
  }
  bool overrun() const { return at_ > n_ + 3; }  // more was read than an encoder has written
  bool finished() const { return at_ == n_ + 3; }

 private:
  void next() { x_ = x_ << 8 | (at_ < n_ ? p_[at_] : 0u), ++at_; }
  const uint8_t* p_;
  size_t n_, at_ = 0;
  uint32_t low_ = 0, high_ = 0xFFFFFFFFu, x_ = 0;
};

constexpr int kLearnMax = 4095;

// Tables of section 17. No value is near a tie (tests/dlpr/modes/jpeg), so that any libm gives these integers.
struct MixTables {
  uint16_t squash[4095];
  uint16_t learn[kLearnMax + 1];
  MixTables() {
    for (int i = 0; i < 4095; ++i)
      squash[i] = uint16_t(std::min(std::max(int(std::lrint(65536 / (1 + std::exp2((2047 - i) / 128.0)))), 32), 65504));
    for (int n = 0; n <= kLearnMax; ++n) learn[n] = uint16_t(4 + 4096 / (32 + n));
  }
};

inline const MixTables& mix_tables() {
  static const MixTables tables;
  return tables;
}

// A slot: the probability of a 1 in 1/65536 (low half) and the weight of the next bit (high half).
constexpr uint32_t kFreshRate = 26000, kSlowestRate = 200, kRateDecay = 50000;
constexpr uint32_t kFreshSlot = 32767u | kFreshRate << 16;
constexpr int kFreshWeight = 1024;

constexpr int kInputs = 8;  // predictions that are mixed for one bit
constexpr int kUnary = 7;   // bits of a magnitude before the Exp-Golomb code

// A state to start from: what the coder had learnt at some time. Sizes as the coder's own.
struct MixState {
  const uint32_t* slots = nullptr;
  const int16_t* weights = nullptr;  // first family, then second, kInputs each
  size_t slot_count = 0, set_count = 0;
};

// Where the samples beside a lossy image lie: their grid of 8 x 8 blocks begins at the phase.
struct ResidualArea {
  int H = 0, W = 0, components = 1, phase_y = 0, phase_x = 0;
};

// Mixed bits of a prior's sets have been seen this often.
constexpr int kPriorUses = 512;

}  // namespace dlpr
