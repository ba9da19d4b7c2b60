// The MQ coder of JPEG 2000 (Part 1, Annex C) and the raw bits of its bypass (Annex D.6).
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace dlpr {

constexpr int kMqContexts = 19;  // 0..8 zero coding, 9..13 signs, 14..16 refinement, 17 run, 18 uniform

// A context's state in one word: Q_e (15 bits), the more probable symbol, then the states' numbers after an MPS and
// after an LPS. A state's number is 2 * (row of table C-2) + its more probable symbol.
struct MqTable {
  uint32_t state[94];
  MqTable() {
    static const struct {
      uint16_t qe;
      uint8_t mps, lps, swap;
    } rows[47] = {
        {0x5601, 1, 1, 1},   {0x3401, 2, 6, 0},   {0x1801, 3, 9, 0},   {0x0AC1, 4, 12, 0},  {0x0521, 5, 29, 0},
        {0x0221, 38, 33, 0}, {0x5601, 7, 6, 1},   {0x5401, 8, 14, 0},  {0x4801, 9, 14, 0},  {0x3801, 10, 14, 0},
        {0x3001, 11, 17, 0}, {0x2401, 12, 18, 0}, {0x1C01, 13, 20, 0}, {0x1601, 29, 21, 0}, {0x5601, 15, 14, 1},
        {0x5401, 16, 14, 0}, {0x5101, 17, 15, 0}, {0x4801, 18, 16, 0}, {0x3801, 19, 17, 0}, {0x3401, 20, 18, 0},
        {0x3001, 21, 19, 0}, {0x2801, 22, 19, 0}, {0x2401, 23, 20, 0}, {0x2201, 24, 21, 0}, {0x1C01, 25, 22, 0},
        {0x1801, 26, 23, 0}, {0x1601, 27, 24, 0}, {0x1401, 28, 25, 0}, {0x1201, 29, 26, 0}, {0x1101, 30, 27, 0},
        {0x0AC1, 31, 28, 0}, {0x09C1, 32, 29, 0}, {0x08A1, 33, 30, 0}, {0x0521, 34, 31, 0}, {0x0441, 35, 32, 0},
        {0x02A1, 36, 33, 0}, {0x0221, 37, 34, 0}, {0x0141, 38, 35, 0}, {0x0111, 39, 36, 0}, {0x0085, 40, 37, 0},
        {0x0049, 41, 38, 0}, {0x0025, 42, 39, 0}, {0x0015, 43, 40, 0}, {0x0009, 44, 41, 0}, {0x0005, 45, 42, 0},
        {0x0001, 45, 43, 0}, {0x5601, 46, 46, 0}};
    for (uint32_t i = 0; i < 94; ++i) {
      const auto& r = rows[i / 2];
      const uint32_t mps = i & 1;
      state[i] = r.qe | mps << 15 | (2u * r.mps + mps) << 16 | (2u * r.lps + (r.swap ? 1 - mps : mps)) << 24;
    }
  }
};

inline const uint32_t* mq_states() {
  static const MqTable table;
  return table.state;
}

inline void mq_reset(uint32_t* contexts) {
  const uint32_t* t = mq_states();
  std::fill(contexts, contexts + kMqContexts, t[0]);
  contexts[0] = t[2 * 4], contexts[17] = t[2 * 3], contexts[18] = t[2 * 46];
}

// Reads up to two bytes past the data, which must be FF FF; then it reads ones for ever.
struct MqDecoder {
  static constexpr bool kDecodes = true;
  const uint8_t* p = nullptr;
  uint32_t a = 0, c = 0, ct = 0;
  const uint32_t* table = mq_states();

  void byte_in() {
    const uint32_t next = p[1];
    if (*p == 0xFF) {
      if (next > 0x8F) c += 0xFF00, ct = 8;
      else ++p, c += next << 9, ct = 7;
    } else {
      ++p, c += next << 8, ct = 8;
    }
  }
  void start(const uint8_t* data) {
    p = data, c = uint32_t(*p) << 16;
    byte_in();
    c <<= 7, ct -= 7, a = 0x8000;
  }
  void renormalise() {
    do {
      if (!ct) byte_in();
      a <<= 1, c <<= 1, --ct;
    } while (!(a & 0x8000));
  }
  inline int code(uint32_t& context, int) {
    const uint32_t e = context, qe = e & 0x7FFF;
    uint32_t d = e >> 15 & 1;
    a -= qe;
    if ((c >> 16) < qe) {
      const bool more = a < qe;  // conditional exchange
      a = qe;
      context = table[more ? e >> 16 & 0xFF : e >> 24];
      d ^= !more;
      renormalise();
    } else {
      c -= qe << 16;
      if (!(a & 0x8000)) {
        const bool less = a < qe;
        context = table[less ? e >> 24 : e >> 16 & 0xFF];
        d ^= less;
        renormalise();
      }
    }
    return int(d);
  }
};

struct MqEncoder {
  static constexpr bool kDecodes = false;
  uint32_t a = 0x8000, c = 0, ct = 12;
  const uint32_t* table = mq_states();
  std::vector<uint8_t>* out = nullptr;  // begins with a byte that is not part of the segment

  void start(std::vector<uint8_t>* into) {
    out = into;
    out->assign(1, 0);
    a = 0x8000, c = 0, ct = 12;
  }
  void byte_out() {
    uint8_t& last = out->back();
    if (last != 0xFF && (c & 0x8000000)) {
      ++last;
      c &= 0x7FFFFFF;
    }
    if (last == 0xFF) {
      out->push_back(uint8_t(c >> 20));
      c &= 0xFFFFF, ct = 7;
    } else {
      out->push_back(uint8_t(c >> 19));
      c &= 0x7FFFF, ct = 8;
    }
  }
  void renormalise() {
    do {
      a <<= 1, c <<= 1, --ct;
      if (!ct) byte_out();
    } while (!(a & 0x8000));
  }
  inline int code(uint32_t& context, int bit) {
    const uint32_t e = context, qe = e & 0x7FFF;
    a -= qe;
    if (uint32_t(bit) == (e >> 15 & 1)) {
      if (a & 0x8000) {
        c += qe;
      } else {
        if (a < qe) a = qe;
        else c += qe;
        context = table[e >> 16 & 0xFF];
        renormalise();
      }
    } else {
      if (a < qe) c += qe;
      else a = qe;
      context = table[e >> 24];
      renormalise();
    }
    return bit;
  }
  // Bytes that a flush now would give, without it (figure C-11; a last FF is left out).
  size_t length() const { return out->size() - 1; }
  void flush() {
    const uint32_t top = c + a;
    c |= 0xFFFF;
    if (c >= top) c -= 0x8000;
    c <<= ct;
    byte_out();
    c <<= ct;
    byte_out();
    if (out->back() == 0xFF) out->pop_back();
  }
};

// Raw bits: a 0 is stuffed after a byte FF. Past the data, which FF FF must follow, ones are read.
struct RawDecoder {
  static constexpr bool kDecodes = true;
  const uint8_t* p = nullptr;
  uint32_t c = 0, ct = 0;
  void start(const uint8_t* data) { p = data, c = 0, ct = 0; }
  inline int code(uint32_t&, int) {
    if (!ct) {
      if (c == 0xFF) {
        if (*p > 0x8F) c = 0xFF, ct = 8;
        else c = *p++, ct = 7;
      } else {
        c = *p++, ct = 8;
      }
    }
    --ct;
    return int(c >> ct & 1);
  }
};

struct RawEncoder {
  static constexpr bool kDecodes = false;
  std::vector<uint8_t>* out = nullptr;
  uint32_t c = 0, ct = 8;
  void start(std::vector<uint8_t>* into) {
    out = into;
    out->assign(1, 0);
    c = 0, ct = 8;
  }
  inline int code(uint32_t&, int bit) {
    --ct;
    c |= uint32_t(bit) << ct;
    if (!ct) {
      out->push_back(uint8_t(c));
      ct = c == 0xFF ? 7 : 8, c = 0;
    }
    return bit;
  }
  size_t length() const { return out->size() - 1; }
};

}  // namespace dlpr
