// Huffman codes to write with: from a DHT's definition, standard (T.81 annex K.3), or the ones that libjpeg makes for
// counts of symbols (annex K.2 with libjpeg's ties).
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>

namespace dlpr {

struct HuffmanDefinition {
  uint8_t counts[16] = {};  // codes of 1..16 bits
  uint8_t values[256] = {};
  int size() const {
    int n = 0;
    for (int v : counts) n += v;
    return n;
  }
  bool operator==(const HuffmanDefinition& o) const {
    return !std::memcmp(counts, o.counts, 16) && !std::memcmp(values, o.values, size_t(size()));
  }
};

// Reads the 16 counts and the values at p; how many bytes they take, -1 where `end` cuts them short.
inline int definition(const uint8_t* p, const uint8_t* end, HuffmanDefinition& d) {
  if (end - p < 16) return -1;
  std::copy_n(p, 16, d.counts);
  const int n = d.size();
  if (n > 256 || end - p < 16 + n) return -1;
  std::copy_n(p + 16, n, d.values);
  return 16 + n;
}

struct HuffmanCode {
  uint16_t code[256] = {};
  uint8_t length[256] = {};  // 0: the symbol has no code
  // False if the lengths are no prefix code. Of a symbol with two codes the first is taken.
  bool build(const HuffmanDefinition& d) {
    *this = HuffmanCode();
    uint32_t next = 0;
    int k = 0;
    for (int bits = 1; bits <= 16; ++bits, next <<= 1)
      for (int i = 0; i < d.counts[bits - 1]; ++i, ++k, ++next) {
        if (k > 255 || next >= 1u << bits) return false;
        if (!length[d.values[k]]) code[d.values[k]] = uint16_t(next), length[d.values[k]] = uint8_t(bits);
      }
    return true;
  }
};

// The table that libjpeg (jpeg_gen_optimal_table) makes for counts[256]; false if it makes none.
inline bool libjpeg_table(const uint32_t* counts, HuffmanDefinition& out) {
  constexpr int kNone = -1, kLongest = 32;
  int symbol[257], next[257], bits_of[257], n = 0;  // next: another symbol of the same branch
  int64_t weight[257];
  for (int s = 0; s <= 256; ++s) {
    const int64_t w = s < 256 ? counts[s] : 1;  // symbol 256 takes the code of all ones, which must stay free
    if (w) symbol[n] = s, weight[n] = w, next[n] = kNone, bits_of[n] = 0, ++n;
  }
  for (;;) {
    int a = kNone, b = kNone;  // the two lightest; among equals the last
    for (int i = 0; i < n; ++i) {
      if (!weight[i]) continue;
      if (a == kNone || weight[i] <= weight[a]) b = a, a = i;
      else if (b == kNone || weight[i] <= weight[b]) b = i;
    }
    if (b == kNone) break;
    weight[a] += weight[b], weight[b] = 0;
    int end = a;
    for (int i = a; i != kNone; i = next[i]) ++bits_of[i], end = i;
    next[end] = b;
    for (int i = b; i != kNone; i = next[i]) ++bits_of[i];
  }
  int of_length[kLongest + 1] = {};
  for (int i = 0; i < n; ++i) {
    if (bits_of[i] > kLongest) return false;
    ++of_length[bits_of[i]];
  }
  of_length[0] = 0;
  for (int bits = kLongest; bits > 16; --bits)
    while (of_length[bits] > 0) {  // a pair goes up: one takes its prefix, the other halves a shorter code
      int shorter = bits - 2;
      while (of_length[shorter] == 0) --shorter;
      of_length[bits] -= 2, ++of_length[bits - 1], of_length[shorter + 1] += 2, --of_length[shorter];
    }
  int longest = 16;
  while (longest > 0 && of_length[longest] == 0) --longest;
  --of_length[longest];  // that of symbol 256
  out = HuffmanDefinition();
  for (int bits = 1; bits <= 16; ++bits) out.counts[bits - 1] = uint8_t(of_length[bits]);
  int k = 0;
  for (int bits = 1; bits <= kLongest; ++bits)
    for (int i = 0; i < n; ++i)
      if (bits_of[i] == bits && symbol[i] < 256) out.values[k++] = uint8_t(symbol[i]);
  return true;
}

// Annex K.3: 0 DC of luma, 1 AC of luma, 2 DC of chroma, 3 AC of chroma.
constexpr int kStandardTables = 4;
inline const HuffmanDefinition& standard_table(int number) {
  static const struct Tables {
    HuffmanDefinition table[kStandardTables];
    Tables() {
      static const uint8_t counts[kStandardTables][16] = {{0, 1, 5, 1, 1, 1, 1, 1, 1},
                                                          {0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 125},
                                                          {0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1},
                                                          {0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 119}};
      // The frequent symbols of AC; those of the longest length follow in ascending order.
      static const uint8_t luma[] = {0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13,
                                     0x51, 0x61, 0x07, 0x22, 0x71, 0x14, 0x32, 0x81, 0x91, 0xA1, 0x08, 0x23, 0x42,
                                     0xB1, 0xC1, 0x15, 0x52, 0xD1, 0xF0, 0x24, 0x33, 0x62, 0x72, 0x82};
      static const uint8_t chroma[] = {0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12,
                                       0x41, 0x51, 0x07, 0x61, 0x71, 0x13, 0x22, 0x32, 0x81, 0x08, 0x14,
                                       0x42, 0x91, 0xA1, 0xB1, 0xC1, 0x09, 0x23, 0x33, 0x52, 0xF0, 0x15,
                                       0x62, 0x72, 0xD1, 0x0A, 0x16, 0x24, 0x34, 0xE1, 0x25, 0xF1};
      for (int t = 0; t < kStandardTables; ++t) {
        std::copy_n(counts[t], 16, table[t].counts);
        uint8_t* v = table[t].values;
        if (t % 2 == 0) {
          for (int k = 0; k < 12; ++k) v[k] = uint8_t(k);
          continue;
        }
        const uint8_t* first = t == 1 ? luma : chroma;
        const int n = t == 1 ? int(sizeof luma) : int(sizeof chroma);
        std::copy_n(first, n, v);
        int k = n;
        for (int s = 1; s < 256; ++s) {
          const int size = s & 15;
          if (size >= 1 && size <= 10 && std::find(first, first + n, uint8_t(s)) == first + n) v[k++] = uint8_t(s);
        }
      }
    }
  } tables;
  return tables.table[number];
}

}  // namespace dlpr
