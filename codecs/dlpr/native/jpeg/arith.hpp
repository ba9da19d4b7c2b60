// Adaptive binary arithmetic coding with mixed contexts (docs/format section 17), integers only.
// Python twin: codecs/dlpr/modes/jpeg/arithmetic.py.
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
    if (bit) high_ = mid;
    else low_ = mid + 1;
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
    if (bit) high_ = mid;
    else low_ = mid + 1;
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

// Tables of section 17. No value is near a tie (tests/dlpr/jpeg), so that any libm gives these integers.
struct MixTables {
  int16_t stretch[4096];
  uint16_t squash[4095];
  uint16_t adapt[256];
  uint16_t learn[1024];
  MixTables() {
    for (int i = 0; i < 4096; ++i) stretch[i] = int16_t(std::lrint(256 * std::log((2 * i + 1) / double(8191 - 2 * i))));
    for (int i = 0; i < 4095; ++i)
      squash[i] = uint16_t(std::min(std::max(int(std::lrint(65536 / (1 + std::exp((2047 - i) / 256.0)))), 32), 65504));
    for (int n = 0; n < 256; ++n) adapt[n] = uint16_t(131072 / (2 * n + 3));
    for (int n = 0; n < 1024; ++n) learn[n] = uint16_t(8 + 2048 / (16 + n));
  }
};

inline const MixTables& mix_tables() {
  static const MixTables tables;
  return tables;
}

// An adaptive probability of a 1, in 1/65536, and the bits it has seen.
struct Slot {
  uint16_t one = 32768, n = 0;
  void see(int bit, int limit, const MixTables& t) {
    one = uint16_t(one + (((bit ? 65535 : 0) - int(one)) * int(t.adapt[n]) >> 16));
    if (n < limit) ++n;
  }
};

constexpr int kInputs = 8;  // predictions that are mixed for one bit
constexpr int kBins = 16;   // slots of a context: zero, sign, 7 of the magnitude when the sign agrees, 7 when not
constexpr int kUnary = 7;   // bits of a magnitude before the Exp-Golomb code
constexpr int kWeightMax = 1 << 20;

// Numbers and counts by the contexts `context[0..7]`; a set bit of `mirror`: this input expects a negative number.
template <class Coder>
class MixedCoder {
 public:
  int context[kInputs] = {};
  uint32_t mirror = 0;

  // Contexts of each input; sets of weights of the two mixers.
  MixedCoder(Coder& coder, const int sizes[kInputs], int first_sets, int second_sets)
      : coder_(coder), t_(mix_tables()), golomb_(kGolombKinds * 32), first_(first_sets), second_(second_sets) {
    for (int i = 0; i < kInputs; ++i) slots_[i].resize(size_t(sizes[i]) * kBins);
  }

  bool bad() const { return bad_; }
  void fail() { bad_ = true; }

  // A number below 2^14 in magnitude. Weight sets first .. first + 8 and `second`; `kind` has its own Exp-Golomb code.
  int number(int value, bool may_be_zero, int first, int second, int kind) {
    int at[kInputs];
    if (may_be_zero) {
      for (int i = 0; i < kInputs; ++i) at[i] = 0;
      if (!bit(value != 0, at, 0, first, second)) return 0;
    }
    for (int i = 0; i < kInputs; ++i) at[i] = 1;
    const int negative = bit(value < 0, at, mirror, first + 1, second), size = std::abs(value);
    for (int i = 0; i < kInputs; ++i) at[i] = (negative ^ int(mirror >> i & 1)) ? 2 + kUnary : 2;
    int n = 1;
    for (; n <= kUnary; ++n) {
      if (!bit(size > n, at, 0, first + 1 + n, second)) break;
      for (int& a : at) ++a;
    }
    if (n > kUnary) n += golomb(size - n, kind);
    return negative ? -n : n;
  }

  // A number of `depth` bits, most significant first; each context has 2^depth slots.
  // Sets first + 1 .. first + 2^depth - 1.
  int count(int value, int depth, int first, int second) {
    int node = 1, at[kInputs];
    for (int i = depth - 1; i >= 0; --i) {
      for (int& a : at) a = node;
      node = node << 1 | bit(value >> i & 1, at, 0, first + node, second);
    }
    return node - (1 << depth);
  }

  // A flag; each context has one slot of its 16, number 0.
  int flag(int value, int first, int second) {
    const int at[kInputs] = {};
    return bit(value, at, 0, first, second);
  }

  // v >= 0 by Exp-Golomb with a slot for each bit.
  int golomb(int v, int kind) {
    Slot* s = &golomb_[size_t(kind) * 32];
    int bits = 0, r = 1;
    while (bits < 13 && plain(s[bits], (v + 1) >> (bits + 1) != 0)) ++bits;
    for (int i = bits - 1; i >= 0; --i) r = r << 1 | plain(s[16 + i], (v + 1) >> i & 1);
    return r - 1;
  }

  static constexpr int kGolombKinds = 8;

 private:
  struct Weights {
    int32_t w[kInputs];
    int n = 0;
    Weights() { std::fill(w, w + kInputs, 8192); }
  };

  int bit(int value, const int at[kInputs], uint32_t turned, int first, int second) {
    Slot* s[kInputs];
    int x[kInputs];
    Weights &a = first_[first], &b = second_[second];
    int64_t dot = 0;
    for (int i = 0; i < kInputs; ++i) {
      s[i] = &slots_[i][size_t(context[i]) * kBins + at[i]];
      const int v = t_.stretch[s[i]->one >> 4];
      x[i] = turned >> i & 1 ? -v : v;
      dot += int64_t(a.w[i] + b.w[i]) * x[i];
    }
    const int p = t_.squash[std::min<int64_t>(std::max<int64_t>(dot >> 16, -2047), 2047) + 2047];
    const int got = coder_.code(value, uint32_t(p));
    const int64_t error = (got << 16) - p, ea = error * t_.learn[a.n], eb = error * t_.learn[b.n];
    if (a.n < 1023) ++a.n;
    if (b.n < 1023) ++b.n;
    for (int i = 0; i < kInputs; ++i) {
      a.w[i] = std::min(std::max(a.w[i] + int32_t((x[i] * ea + (1 << 19)) >> 20), -kWeightMax), kWeightMax);
      b.w[i] = std::min(std::max(b.w[i] + int32_t((x[i] * eb + (1 << 19)) >> 20), -kWeightMax), kWeightMax);
      s[i]->see(got ^ int(turned >> i & 1), 255, t_);
    }
    return got;
  }

  int plain(Slot& s, int value) {
    const int got = coder_.code(value, std::min(std::max<uint32_t>(s.one, 32), 65504u));
    s.see(got, 60, t_);
    return got;
  }

  Coder& coder_;
  const MixTables& t_;
  std::vector<Slot> slots_[kInputs], golomb_;
  std::vector<Weights> first_, second_;
  bool bad_ = false;
};

}  // namespace dlpr
