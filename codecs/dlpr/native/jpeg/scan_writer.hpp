// Coefficients to the entropy-coded bytes of a scan (T.81 annexes F and G), in the spelling of libjpeg: each block's
// shortest, runs of ended blocks as long as they may get.
#pragma once
#include "jpeg/huffman_code.hpp"
#include "jpeg/image.hpp"
#include "jpeg/zigzag.hpp"
#include <vector>

namespace dlpr {

// One scan: components, a band of coefficients, bits from `low` on or bit `low` alone (`refines`), tables.
struct JpegScan {
  bool progressive = false, refines = false;
  int count = 0, component[3] = {}, first = 0, last = 63, low = 0, dc[3] = {}, ac[3] = {};
};

constexpr int kHuffmanSlots = 8;  // DC 0..3, AC 4..7

// Counts symbols.
struct SymbolCounter {
  uint32_t counts[kHuffmanSlots][256] = {};
  void reserve() {}
  void symbol(int slot, int s, uint32_t, int) { ++counts[slot][s]; }
  void bits(uint32_t, int) {}
  void restart(int) {}
};

// Writes bits, a 0 after each FF.
class ScanWriter {
 public:
  ScanWriter(const HuffmanCode* codes, int padding) : codes_(codes), padding_(padding) {}
  bool good() const { return good_; }
  std::vector<size_t> starts{0};  // of restart intervals

  void reserve() {  // for a block: at most 64 codes of 16 bits with 15 bits each, all of them stuffed
    if (out_.size() - at_ < kBlock) out_.resize(out_.size() * 2 + (1 << 14));
  }
  void symbol(int slot, int s, uint32_t extra, int n) {
    const int length = codes_[slot].length[s];
    if (!length) good_ = false;
    bits(uint32_t(codes_[slot].code[s]) << n | extra, length + n);
  }
  void bits(uint32_t value, int n) {  // n <= 31, value < 2^n
    window_ = window_ << n | value, have_ += n;
    if (have_ < 32) return;
    have_ -= 32;
    const uint32_t w = uint32_t(window_ >> have_);
    uint8_t* p = out_.data() + at_;
    if ((w & 0x80808080u & ~(w + 0x01010101u)) == 0) {  // no byte of ones
      p[0] = uint8_t(w >> 24), p[1] = uint8_t(w >> 16), p[2] = uint8_t(w >> 8), p[3] = uint8_t(w);
      at_ += 4;
      return;
    }
    for (int shift = 24; shift >= 0; shift -= 8) byte(uint8_t(w >> shift));
  }
  void restart(int number) {
    flush();
    out_[at_++] = 0xFF, out_[at_++] = uint8_t(0xD0 + number);
    starts.push_back(at_);
  }
  void flush() {
    reserve();
    if (const int n = -have_ & 7) window_ = window_ << n | (padding_ ? (1u << n) - 1 : 0), have_ += n;
    for (; have_ > 0; have_ -= 8) byte(uint8_t(window_ >> (have_ - 8)));
  }
  const uint8_t* data() const { return out_.data(); }
  size_t size() const { return at_; }

 private:
  void byte(uint8_t v) {
    out_[at_++] = v;
    if (v == 0xFF) out_[at_++] = 0;
  }
  static constexpr size_t kBlock = 2 * 64 * 4 + 256;
  const HuffmanCode* codes_;
  int padding_;
  bool good_ = true;
  std::vector<uint8_t> out_ = std::vector<uint8_t>(1 << 14);
  size_t at_ = 0;
  uint64_t window_ = 0;
  int have_ = 0;  // below 32 between calls
};

inline int bit_length(uint32_t v) {
  int n = 0;
  while (v >> n) ++n;
  return n;
}
#if defined(__GNUC__)
inline int magnitude_bits(int v) { return v ? 32 - __builtin_clz(unsigned(v < 0 ? -v : v)) : 0; }
#else
inline int magnitude_bits(int v) { return bit_length(unsigned(v < 0 ? -v : v)); }
#endif
inline uint32_t magnitude_extra(int v, int n) { return uint32_t(v < 0 ? v - 1 : v) & ((1u << n) - 1); }

// The scan of an image whose component c has coefficients q[c], [blocks][64], natural order.
template <class Sink>
class ScanCoder {
 public:
  ScanCoder(const JpegFields& f, const int16_t* const* q, const JpegScan& s, Sink& sink)
      : f_(f), q_(q), s_(s), sink_(sink) {}

  // MCUs `first` to `first + count` (all of the scan: 0, -1), a marker behind every `restart` of them; 0: none.
  void run(int restart, int64_t first = 0, int64_t count = -1) {
    const bool alone = s_.count == 1 && (s_.progressive || f_.components == 1);
    const int c0 = s_.component[0];
    const int rows = alone ? (c0 ? f_.mcu_rows() : (f_.phase_y + f_.H + 7) / 8) : f_.mcu_rows();
    const int cols = alone ? (c0 ? f_.mcu_cols() : (f_.phase_x + f_.W + 7) / 8) : f_.mcu_cols();
    if (count < 0) count = int64_t(rows) * cols - first;
    int left = restart, next = 0, y = int(first / cols), x = int(first % cols);
    for (int64_t i = 0; i < count; ++i) {
      if (restart && left == 0) {
        end_run();
        sink_.restart(next);
        next = (next + 1) & 7, left = restart;
        std::fill(before_, before_ + 3, 0);
      }
      --left;
      for (int k = 0; k < s_.count; ++k) {
        const int c = s_.component[k], sv = alone || c ? 1 : f_.sv, sh = alone || c ? 1 : f_.sh;
        for (int b = 0; b < sv * sh; ++b) {
          const size_t row = size_t(y) * sv + b / sh, col = size_t(x) * sh + b % sh;
          block(k, q_[c] + (row * f_.cols(c) + col) * 64);
        }
      }
      if (++x == cols) x = 0, ++y;
    }
    end_run();
  }

 private:
  void block(int k, const int16_t* q) {
    sink_.reserve();
    if (!s_.progressive) sequential(k, q);
    else if (s_.first == 0 && s_.refines) sink_.bits(uint32_t(q[0] >> s_.low) & 1, 1);
    else if (s_.first == 0) dc(k, q[0] >> s_.low);
    else if (s_.refines) ac_refined(q);
    else ac_first(q);
  }

  void dc(int k, int value) {
    const int diff = value - before_[k], n = magnitude_bits(diff);
    before_[k] = value;
    sink_.symbol(s_.dc[k], n, magnitude_extra(diff, n), n);
  }

  void sequential(int k, const int16_t* q) {
    dc(k, q[0]);
    const int slot = 4 + s_.ac[k];
    int run = 0;
    for (int i = 1; i < 64; ++i) {
      const int v = q[kZigzag[i]];
      if (v == 0) {
        ++run;
        continue;
      }
      for (; run > 15; run -= 16) sink_.symbol(slot, 0xF0, 0, 0);
      const int n = magnitude_bits(v);
      sink_.symbol(slot, run << 4 | n, magnitude_extra(v, n), n);
      run = 0;
    }
    if (run) sink_.symbol(slot, 0, 0, 0);
  }

  void ac_first(const int16_t* q) {
    const int slot = 4 + s_.ac[0];
    int run = 0;
    for (int i = s_.first; i <= s_.last; ++i) {
      const int v = q[kZigzag[i]], a = (v < 0 ? -v : v) >> s_.low;
      if (a == 0) {
        ++run;
        continue;
      }
      end_run();
      for (; run > 15; run -= 16) sink_.symbol(slot, 0xF0, 0, 0);
      const int n = magnitude_bits(a);
      sink_.symbol(slot, run << 4 | n, magnitude_extra(v < 0 ? -a : a, n), n);
      run = 0;
    }
    if (run && ++ended_ == kLongestRun) end_run();
  }

  void ac_refined(const int16_t* q) {
    const int slot = 4 + s_.ac[0];
    int end = 0, magnitude[64];  // end: behind the last coefficient that is new
    for (int i = s_.first; i <= s_.last; ++i) {
      const int v = q[kZigzag[i]];
      magnitude[i] = (v < 0 ? -v : v) >> s_.low;
      if (magnitude[i] == 1) end = i + 1;
    }
    int run = 0;
    size_t mine = waiting_.size();  // bits of this block begin here
    const auto pass_on = [&] {      // they follow the symbol just written
      for (size_t i = mine; i < waiting_.size(); ++i) sink_.bits(waiting_[i], 1);
      waiting_.clear(), mine = 0;
    };
    const auto end_others = [&] {  // blocks before this one
      if (!ended_) return;
      std::vector<uint8_t> own(waiting_.begin() + std::ptrdiff_t(mine), waiting_.end());
      waiting_.resize(mine);
      end_run();
      waiting_ = std::move(own), mine = 0;
    };
    for (int i = s_.first; i <= s_.last; ++i) {
      const int a = magnitude[i];
      if (a == 0) {
        ++run;
        continue;
      }
      while (run > 15 && i < end) {
        end_others();
        sink_.symbol(slot, 0xF0, 0, 0);
        run -= 16;
        pass_on();
      }
      if (a > 1) {
        waiting_.push_back(uint8_t(a & 1));
        continue;
      }
      end_others();
      sink_.symbol(slot, run << 4 | 1, q[kZigzag[i]] > 0, 1);
      pass_on();
      run = 0;
    }
    if (run == 0 && waiting_.size() == mine) return;
    if (++ended_ == kLongestRun || waiting_.size() > kWaiting) end_run();
  }

  // Write how many blocks have ended, and the bits of their known coefficients.
  void end_run() {
    if (ended_ == 0) return;
    const int n = magnitude_bits(ended_) - 1;
    sink_.reserve();
    sink_.symbol(4 + s_.ac[0], n << 4, uint32_t(ended_) & ((1u << n) - 1), n);
    for (size_t i = 0; i < waiting_.size(); ++i) {
      if (i % 64 == 0) sink_.reserve();
      sink_.bits(waiting_[i], 1);
    }
    ended_ = 0;
    waiting_.clear();
  }

  static constexpr int kLongestRun = 0x7FFF;
  static constexpr size_t kWaiting = 1000 - 64 + 1;  // libjpeg's buffer
  const JpegFields& f_;
  const int16_t* const* q_;
  const JpegScan& s_;
  Sink& sink_;
  int before_[3] = {}, ended_ = 0;
  std::vector<uint8_t> waiting_;
};

}  // namespace dlpr
