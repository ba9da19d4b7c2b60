// How segments of codeword end: what their bytes are beside the decisions coded in them.
//
// The decisions leave an interval of code words; its ends bound the last bytes, which are coded within those bounds.
// Encoders that cut a longer codeword leave more open than those that flush.
#pragma once
#include "j2k/mq.hpp"
#include "j2k/numbers.hpp"

namespace dlpr {

// Bytes that a coder would write from its present state on if the code value went to the low or to the high end of its
// interval. `from`: index in the segment of the first of them, which may replace one that is written already.
struct Bounds {
  size_t from = 0;
  std::vector<uint8_t> low, high;
};

inline void mq_bounds(const MqEncoder& e, size_t count, Bounds& b) {
  auto end = [&](uint32_t c, bool ones, std::vector<uint8_t>& to) {
    MqEncoder copy = e;
    std::vector<uint8_t> tail(1, e.out->back());
    copy.out = &tail;
    copy.c = c;
    while (tail.size() < count + 1) {
      copy.c <<= copy.ct;
      if (ones) copy.c |= (1u << copy.ct) - 1;
      copy.byte_out();
    }
    to = tail;
  };
  const bool none = e.out->size() == 1;  // its first byte is not part of the segment
  end(e.c, false, b.low);
  end(e.c + e.a - 1, true, b.high);
  b.from = none ? 0 : e.out->size() - 2;
  if (none) b.low.erase(b.low.begin()), b.high.erase(b.high.begin());
}

inline void raw_bounds(const RawEncoder& e, size_t count, Bounds& b) {
  auto end = [&](bool ones, std::vector<uint8_t>& to) {
    RawEncoder copy = e;
    std::vector<uint8_t> tail(1, 0);
    copy.out = &tail;
    uint32_t unused = 0;
    while (tail.size() < count + 1) copy.code(unused, ones);
    to.assign(tail.begin() + 1, tail.end());
  };
  b.from = e.out->size() - 1;
  end(false, b.low), end(true, b.high);
}

// A segment: its decisions are coded into `out`, and `bytes` are what lies in the codestream.
template <class Bits>
class J2kSegment {
 public:
  static constexpr bool kReads = Bits::kDecodes;
  MqEncoder mq;
  RawEncoder raw;
  std::vector<uint8_t> out;  // begins with a byte that is not part of the segment
  std::vector<uint8_t> bytes;
  const char* error = nullptr;

  explicit J2kSegment(Numbers<Bits>& numbers_) : numbers(numbers_) {}

  // The bytes of a segment whose decisions were coded into out: bytes is what they are (a maker) or becomes it.
  bool end(bool is_raw) {
    // what a plain end gives is the guess of the length
    size_t plain;
    if (is_raw) {
      plain = raw.length() + (raw.ct < 8 ? 1 : 0);
    } else {
      MqEncoder copy = mq;
      plain_bytes = out;
      copy.out = &plain_bytes;
      copy.flush();
      plain = plain_bytes.size() - 1;
      const bool same =
          !kReads && bytes.size() == plain && std::equal(bytes.begin(), bytes.end(), plain_bytes.begin() + 1);
      if (numbers.flag(kPlainSegment, same)) {
        if (kReads) bytes.assign(plain_bytes.begin() + 1, plain_bytes.end());
        return true;
      }
    }
    const size_t real = bytes.size();
    bool odd = false;
    if (!kReads) {
      find_bounds(is_raw, real);
      odd = !within(real);
    }
    odd = numbers.flag(kOddSegment, odd);
    const int64_t length = odd ? int64_t(numbers.number(kRawLength, uint32_t(real)))
                               : int64_t(plain) + numbers.difference(kSegmentLength, int32_t(real) - int32_t(plain));
    if (length < 0 || length > (1 << 20) || numbers.overrun()) return fail("a segment of impossible length");
    if (odd) {
      if (kReads) bytes.resize(size_t(length));
      for (uint8_t& byte : bytes) {
        byte = uint8_t(numbers.uniform(256, byte));
        if (numbers.overrun()) return fail("the details are cut short");
      }
      return true;
    }
    if (kReads) {
      find_bounds(is_raw, size_t(length));
      bytes.assign(out.begin() + 1, out.begin() + 1 + std::min(size_t(length), bounds.from));
    }
    bool on_low = true, on_high = true;
    for (size_t j = bounds.from; j < size_t(length); ++j) {
      int low, high;
      range(j, on_low, on_high, bytes, &low, &high);
      if (high < low || numbers.overrun()) return fail("a segment out of its bounds");
      const int byte = low + int(numbers.uniform(uint32_t(high - low + 1), kReads ? 0 : uint32_t(bytes[j] - low)));
      if (kReads) bytes.push_back(uint8_t(byte));
      follow(j, byte, &on_low, &on_high);
    }
    return true;
  }

 private:
  bool fail(const char* what) {
    error = what;
    return false;
  }
  void find_bounds(bool is_raw, size_t length) {
    const size_t written = out.size() - 1;
    const size_t count = std::max<size_t>(length + 1, written) - std::min(length, written) + 1;
    if (is_raw) raw_bounds(raw, count, bounds);
    else mq_bounds(mq, count, bounds);
  }
  void range(size_t j, bool on_low, bool on_high, const std::vector<uint8_t>& segment, int* low, int* high) const {
    *low = on_low ? bounds.low[j - bounds.from] : 0;
    *high = on_high ? bounds.high[j - bounds.from] : j && segment[j - 1] == 0xFF ? 0x8F : 0xFF;
  }
  void follow(size_t j, int byte, bool* on_low, bool* on_high) const {
    *on_low = *on_low && byte == bounds.low[j - bounds.from];
    *on_high = *on_high && byte == bounds.high[j - bounds.from];
  }
  // Is bytes what the decisions and bounds allow?
  bool within(size_t length) const {
    for (size_t j = 0; j < std::min(length, bounds.from); ++j)
      if (bytes[j] != out[j + 1]) return false;
    bool on_low = true, on_high = true;
    for (size_t j = bounds.from; j < length; ++j) {
      int low, high;
      range(j, on_low, on_high, bytes, &low, &high);
      if (bytes[j] < low || bytes[j] > high) return false;
      follow(j, bytes[j], &on_low, &on_high);
    }
    return true;
  }

  Numbers<Bits>& numbers;
  std::vector<uint8_t> plain_bytes;
  Bounds bounds;
};

}  // namespace dlpr
