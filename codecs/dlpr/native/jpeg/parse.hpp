// Baseline, extended sequential and progressive Huffman JPEG (ITU-T T.81) to quantised coefficients. Bytes are not
// trusted: every read is bounded, memory is allocated only once the bytes can hold that many blocks, and scans are few.
#pragma once
#include "jpeg/image.hpp"
#include "jpeg/zigzag.hpp"
#include <cstring>
#include <string>

namespace dlpr {

struct JpegHuffman {
  bool present = false;
  uint8_t values[256] = {};
  int count = 0;
  int32_t max_code[18] = {};  // largest code of each length, -1 for none
  int32_t offset[17] = {};    // index of a code's value minus the code
  int16_t fast[256] = {};     // by the next 8 bits: length << 8 | value, -1 for longer codes

  // counts[1..16]; false if the lengths are no prefix code.
  bool build(const uint8_t* counts) {
    int32_t code = 0, k = 0;
    std::fill(fast, fast + 256, int16_t(-1));
    for (int length = 1; length <= 16; ++length) {
      offset[length] = k - code;
      const int n = counts[length];
      if (code + n > (1 << length)) return false;
      for (int i = 0; i < n && length <= 8; ++i)
        for (int j = 0; j < 1 << (8 - length); ++j)
          fast[((code + i) << (8 - length)) + j] = int16_t(length << 8 | values[k + i]);
      code += n, k += n;
      max_code[length] = n ? code - 1 : -1;
      code <<= 1;
    }
    count = k, present = true;
    return true;
  }
};

// Bits of the entropy-coded segments, FF 00 read as FF; past a marker or the end there are zero bits, counted.
struct JpegBits {
  const uint8_t *p, *end;
  uint64_t window = 0;
  int have = 0, missing = 0;
  JpegBits(const uint8_t* p_, const uint8_t* end_) : p(p_), end(end_) {}
  void fill() {
    while (have <= 48) {
      uint8_t byte = 0;
      if (p < end && (*p != 0xFF || (p + 1 < end && p[1] == 0))) {
        byte = *p;
        p += byte == 0xFF ? 2 : 1;
      } else {
        missing += 8;
      }
      window = window << 8 | byte, have += 8;
    }
  }
  uint32_t peek(int n) const { return uint32_t(window >> (have - n)) & ((1u << n) - 1); }
  void drop(int n) { have -= n; }
  bool overrun() const { return missing > have; }  // bits that are not there were used
};

struct ParsedJpeg {
  JpegFields fields;
  bool jfif = false, adobe = false;
  int adobe_transform = 0;
  int ids[3] = {};
  std::vector<int16_t> q[3];
  struct Range {
    size_t begin, end;
  };
  std::vector<Range> scans;  // entropy-coded bytes with restart markers, in the data
  std::string error;         // empty: good
};

class JpegParser {
 public:
  explicit JpegParser(ParsedJpeg& out) : out_(out) { std::memset(known_, kNothing, sizeof known_); }

  // Markers up to the end of the scan, of a progressive image to EOI. `tables_only`: an abbreviated stream of tables,
  // which ends with EOI.
  bool read(const uint8_t* data, size_t size, bool tables_only) {
    const uint8_t *p = data, *end = data + size;
    data_ = data;
    if (size < 4 || p[0] != 0xFF || p[1] != 0xD8) return fail("no JPEG: it does not begin with FF D8");
    p += 2;
    for (;;) {
      if (end - p < 2 || *p != 0xFF) return fail("a marker is missing");
      while (end - p >= 2 && p[1] == 0xFF) ++p;
      if (end - p < 2) return fail("a marker is missing");
      const int marker = p[1];
      p += 2;
      if (marker == 0xD9) return tables_only || (scans_ ? complete() : fail("no scan"));
      if (end - p < 2) return fail("a marker segment is cut short");
      const size_t length = size_t(p[0]) << 8 | p[1];
      if (length < 2 || length > size_t(end - p)) return fail("a marker segment is cut short");
      const uint8_t *s = p + 2, *e = p + length;
      p = e;
      bool ok = true;
      if (marker == 0xDB) ok = dqt(s, e);
      else if (marker == 0xC4) ok = dht(s, e);
      else if (marker == 0xDD) ok = dri(s, e);
      else if (marker == 0xC0 || marker == 0xC1 || marker == 0xC2) progressive_ = marker == 0xC2, ok = sof(s, e);
      else if (marker == 0xE0 && e - s >= 5 && !std::memcmp(s, "JFIF", 5)) out_.jfif = true;
      else if (marker == 0xEE && e - s >= 12 && !std::memcmp(s, "Adobe", 5))
        out_.adobe = true, out_.adobe_transform = s[11];
      else if (marker == 0xDA && tables_only) return fail("a scan among the tables");
      else if (marker == 0xDA && !progressive_) return sos(s, e) && scan(p, end);
      else if (marker == 0xDA) ok = progressive_sos(s, e) && progressive_scan(p, end);
      else if (marker >= 0xC3 && marker <= 0xCF)
        return fail("neither sequential nor progressive Huffman coding (lossless, hierarchical or arithmetic)");
      else if (marker == 0xDC) return fail("a DNL marker");
      if (!ok) return false;
    }
  }

 private:
  bool fail(const char* what) {
    if (out_.error.empty()) out_.error = what;
    return false;
  }

  bool dqt(const uint8_t* s, const uint8_t* e) {
    while (s < e) {
      const int wide = *s >> 4, id = *s & 15;
      ++s;
      if (wide > 1 || id > 3 || e - s < 64 << wide) return fail("a quantisation table is cut short");
      for (int k = 0; k < 64; ++k, s += 1 + wide) quant_[id][kZigzag[k]] = uint16_t(wide ? s[0] << 8 | s[1] : s[0]);
      has_quant_[id] = true;
    }
    return true;
  }

  bool dht(const uint8_t* s, const uint8_t* e) {
    while (s < e) {
      const int kind = *s >> 4, id = *s & 15;
      if (kind > 1 || id > 3 || e - s < 17) return fail("a Huffman table is cut short");
      JpegHuffman& h = huffman_[kind][id];
      int count = 0;
      for (int i = 1; i <= 16; ++i) count += s[i];
      if (count > 256 || e - s < 17 + count) return fail("a Huffman table is cut short");
      std::copy_n(s + 17, count, h.values);
      if (!h.build(s)) return fail("a Huffman table is no prefix code");
      s += 17 + count;
    }
    return true;
  }

  bool dri(const uint8_t* s, const uint8_t* e) {
    if (e - s != 2) return fail("a restart interval is cut short");
    restart_ = s[0] << 8 | s[1];
    return true;
  }

  bool sof(const uint8_t* s, const uint8_t* e) {
    if (have_frame_) return fail("two frames");
    if (e - s < 6 || e - s != 6 + 3 * s[5]) return fail("a frame header is cut short");
    JpegFields& f = out_.fields;
    if (s[0] != 8) return fail("samples of more than 8 bits");
    f.H = s[1] << 8 | s[2], f.W = s[3] << 8 | s[4], f.components = s[5];
    if (f.H == 0 || f.W == 0 || int64_t(f.H) * f.W > (1 << 26)) return fail("a size of 0 or beyond the limit");
    if (f.components != 1 && f.components != 3) return fail("neither one nor three components");
    for (int c = 0; c < f.components; ++c) {
      const uint8_t* k = s + 6 + 3 * c;
      out_.ids[c] = k[0], h_[c] = k[1] >> 4, v_[c] = k[1] & 15, tq_[c] = k[2];
      if (h_[c] < 1 || h_[c] > 4 || v_[c] < 1 || v_[c] > 4 || tq_[c] > 3)
        return fail("a sampling factor or table out of range");
    }
    if (f.components == 3) {
      if (h_[1] != 1 || v_[1] != 1 || h_[2] != 1 || v_[2] != 1 || h_[0] > 2 || v_[0] > 2)
        return fail("chroma sampling other than 4:4:4, 4:2:2, 4:4:0 and 4:2:0");
      f.sv = v_[0], f.sh = h_[0], f.transform = 1;  // the caller decides; sampling needs one
    }
    have_frame_ = true;
    return true;
  }

  // The quantisation table of a component, as it is when the component's first scan begins.
  bool steps(int c) {
    uint16_t* table = out_.fields.tables[c];
    if (!has_quant_[tq_[c]]) return fail("a quantisation table is missing");
    for (int k = 0; k < 64; ++k) {
      table[k] = quant_[tq_[c]][k];
      if (table[k] < 1 || table[k] > 255) return fail("a quantisation step of 0 or beyond 255");
    }
    return true;
  }

  bool sos(const uint8_t* s, const uint8_t* e) {
    JpegFields& f = out_.fields;
    if (!have_frame_) return fail("a scan before its frame");
    if (e - s < 1 || s[0] != f.components || e - s != 4 + 2 * s[0]) return fail("components in scans of their own");
    for (int c = 0; c < f.components; ++c) {
      if (s[1 + 2 * c] != out_.ids[c]) return fail("components in another order than the frame's");
      dc_[c] = s[2 + 2 * c] >> 4, ac_[c] = s[2 + 2 * c] & 15;
      if (dc_[c] > 3 || ac_[c] > 3 || !huffman_[0][dc_[c]].present || !huffman_[1][ac_[c]].present)
        return fail("a Huffman table is missing");
      if (!steps(c)) return false;
    }
    const uint8_t* t = s + 1 + 2 * f.components;
    return (t[0] == 0 && t[1] == 63 && t[2] == 0) || fail("a scan of part of the coefficients");
  }

  bool block(JpegBits& bits, const JpegHuffman& dc, const JpegHuffman& ac, int& previous, int16_t* q) {
    int value;
    if (!symbol(bits, dc, value) || value > 11) return fail("the scan is damaged");
    previous += receive(bits, value);
    if (previous < -kJpegCoefficientMax || previous > kJpegCoefficientMax) return fail("a coefficient out of range");
    q[0] = int16_t(previous);
    for (int k = 1; k < 64; ++k) {
      if (!symbol(bits, ac, value)) return fail("the scan is damaged");
      const int run = value >> 4, size = value & 15;
      if (size == 0) {
        if (run != 15) break;
        k += 15;
        continue;
      }
      k += run;
      if (k > 63 || size > 11) return fail("the scan is damaged");
      q[kZigzag[k]] = int16_t(receive(bits, size));
    }
    return true;
  }

  static bool symbol(JpegBits& bits, const JpegHuffman& h, int& value) {
    if (bits.have < 32) bits.fill();
    const int fast = h.fast[bits.peek(8)];
    if (fast >= 0) {
      bits.drop(fast >> 8);
      value = fast & 255;
      return true;
    }
    for (int length = 9; length <= 16; ++length) {
      const int32_t code = int32_t(bits.peek(length));
      if (h.max_code[length] >= 0 && code <= h.max_code[length] && code + h.offset[length] >= 0) {
        bits.drop(length);
        value = h.values[(code + h.offset[length]) & 255];
        return true;
      }
    }
    return false;
  }

  static int receive(JpegBits& bits, int size) {
    if (!size) return 0;
    if (bits.have < 16) bits.fill();
    const int v = int(bits.peek(size));
    bits.drop(size);
    return v < 1 << (size - 1) ? v - (1 << size) + 1 : v;
  }

  bool restart(JpegBits& bits, int& next) {
    const uint8_t *p = bits.p, *end = bits.end;  // bits past the marker are zeros: nothing was read from behind it
    while (end - p >= 2 && p[0] == 0xFF && p[1] == 0xFF) ++p;
    if (bits.overrun() || bits.have - bits.missing >= 8 || end - p < 2 || p[0] != 0xFF || p[1] != 0xD0 + next)
      return fail("a restart marker is missing");
    bits = JpegBits(p + 2, end);
    next = (next + 1) & 7;
    return true;
  }

  bool scan(const uint8_t* p, const uint8_t* end) {
    JpegFields& f = out_.fields;
    size_t blocks = 0;
    for (int c = 0; c < f.components; ++c) blocks += f.blocks(c);
    if (blocks / 4 > size_t(end - p)) return fail("the scan is too short for its image");  // two bits a block at least
    for (int c = 0; c < f.components; ++c) out_.q[c].assign(f.blocks(c) * 64, 0);
    JpegBits bits(p, end);
    int dc[3] = {}, left = restart_, next = 0;
    for (int y = 0; y < f.mcu_rows(); ++y)
      for (int x = 0; x < f.mcu_cols(); ++x) {
        if (restart_ && left == 0) {
          if (!restart(bits, next)) return false;
          left = restart_;
          std::fill(dc, dc + 3, 0);
        }
        --left;
        for (int c = 0; c < f.components; ++c)
          for (int v = 0; v < (c ? 1 : f.sv); ++v)
            for (int h = 0; h < (c ? 1 : f.sh); ++h) {
              const size_t row = size_t(y) * (c ? 1 : f.sv) + v, col = size_t(x) * (c ? 1 : f.sh) + h;
              if (!block(bits, huffman_[0][dc_[c]], huffman_[1][ac_[c]], dc[c],
                         out_.q[c].data() + (row * f.cols(c) + col) * 64))
                return false;
            }
        if (bits.overrun()) return fail("the scan is cut short");
      }
    scanned(p, bits);
    return true;
  }

  // Where a scan is: its reader may be some bytes ahead, where FF 00 was read as one.
  void scanned(const uint8_t* begin, const JpegBits& bits) {
    const uint8_t* end = bits.p;
    for (int n = (bits.have - bits.missing) / 8; n > 0; --n)
      end -= end - begin >= 2 && end[-1] == 0 && end[-2] == 0xFF ? 2 : 1;
    out_.scans.push_back({size_t(begin - data_), size_t(end - data_)});
  }

  // One scan of a progressive image: some components' DC, or a band of one component's AC; all bits from `low` on, or
  // bit `low` alone (`refines`).
  struct Part {
    int count = 0, component[3] = {}, first = 0, last = 0, low = 0;
    bool refines = false;
  };

  // Scans in the order that T.81 G.1.1.1 asks for, and nothing else: libjpeg goes on with a warning.
  bool progressive_sos(const uint8_t* s, const uint8_t* e) {
    const JpegFields& f = out_.fields;
    if (++scans_ > kScans) return fail("more scans than a progressive JPEG needs");
    if (e - s < 1 || s[0] < 1 || s[0] > f.components || e - s != 4 + 2 * s[0])
      return fail("a scan header is cut short");
    part_ = Part{};
    part_.count = s[0];
    const uint8_t* t = s + 1 + 2 * part_.count;
    part_.first = t[0], part_.last = t[1], part_.low = t[2] & 15, part_.refines = t[2] >> 4;
    const bool dc = part_.first == 0;
    if (part_.first > part_.last || part_.last > 63 || (dc && part_.last) || (!dc && part_.count > 1) ||
        part_.low > 13 || (part_.refines && t[2] >> 4 != part_.low + 1))
      return fail("a scan of coefficients out of range");
    for (int i = 0, c = -1; i < part_.count; ++i) {
      for (++c; c < f.components && out_.ids[c] != s[1 + 2 * i];) ++c;
      if (c == f.components) return fail("components in another order than the frame's");
      part_.component[i] = c;
      dc_[c] = s[2 + 2 * i] >> 4, ac_[c] = s[2 + 2 * i] & 15;
      const bool coded = !dc || !part_.refines;  // DC is refined by plain bits
      if (dc_[c] > 3 || ac_[c] > 3 || (coded && !huffman_[dc ? 0 : 1][dc ? dc_[c] : ac_[c]].present))
        return fail("a Huffman table is missing");
      if (!dc && known_[c][0] == kNothing) return fail("AC before DC");
      for (int k = part_.first; k <= part_.last; ++k) {
        if (known_[c][k] != (part_.refines ? part_.low + 1 : kNothing))
          return fail("scans that do not follow each other");
        known_[c][k] = int8_t(part_.low);
      }
      if (dc && !part_.refines && !steps(c)) return false;
    }
    return true;
  }

  // libjpeg smooths an image that lacks bits; its pixels would be others.
  bool complete() {
    for (int c = 0; c < out_.fields.components; ++c)
      for (int k = 0; k < 64; ++k)
        if (known_[c][k] != 0) return fail("a progressive image that is not complete");
    return true;
  }

  bool progressive_scan(const uint8_t*& p, const uint8_t* end) {
    const JpegFields& f = out_.fields;
    if (scans_ == 1) {
      size_t seen = 0;  // blocks that some scan of DC codes, with a bit at least
      for (int c = 0; c < f.components; ++c) seen += size_t(seen_rows(c)) * seen_cols(c);
      if (seen / 8 > size_t(end - p)) return fail("the scan is too short for its image");
      for (int c = 0; c < f.components; ++c) out_.q[c].assign(f.blocks(c) * 64, 0);
    }
    const bool alone = part_.count == 1;  // block by block, without those that only fill an MCU
    const int rows = alone ? seen_rows(part_.component[0]) : f.mcu_rows();
    const int cols = alone ? seen_cols(part_.component[0]) : f.mcu_cols();
    JpegBits bits(p, end);
    int dc[3] = {}, left = restart_, next = 0;
    skip_ = 0;
    for (int y = 0; y < rows; ++y)
      for (int x = 0; x < cols; ++x) {
        if (restart_ && left == 0) {
          if (!restart(bits, next)) return false;
          left = restart_, skip_ = 0;
          std::fill(dc, dc + 3, 0);
        }
        --left;
        for (int i = 0; i < part_.count; ++i) {
          const int c = part_.component[i], sv = alone || c ? 1 : f.sv, sh = alone || c ? 1 : f.sh;
          for (int b = 0; b < sv * sh; ++b) {
            const size_t row = size_t(y) * sv + b / sh, col = size_t(x) * sh + b % sh;
            int16_t* q = out_.q[c].data() + (row * f.cols(c) + col) * 64;
            if (part_.first ? !(part_.refines ? ac_refined(bits, huffman_[1][ac_[c]], q)
                                              : ac_first(bits, huffman_[1][ac_[c]], q))
                            : !dc_part(bits, huffman_[0][dc_[c]], dc[c], q))
              return false;
          }
        }
        if (bits.overrun()) return fail("the scan is cut short");
      }
    scanned(p, bits);
    p = bits.p;
    return bits.have - bits.missing < 8 || fail("a marker is missing");
  }

  int seen_rows(int c) const {
    const JpegFields& f = out_.fields;
    return c ? f.mcu_rows() : (f.H + 7) / 8;
  }
  int seen_cols(int c) const {
    const JpegFields& f = out_.fields;
    return c ? f.mcu_cols() : (f.W + 7) / 8;
  }

  bool dc_part(JpegBits& bits, const JpegHuffman& h, int& previous, int16_t* q) {
    if (part_.refines) {
      q[0] = int16_t(q[0] | take(bits, 1) << part_.low);
      return true;
    }
    int size;
    if (!symbol(bits, h, size) || size > 11) return fail("the scan is damaged");
    previous += receive(bits, size);
    const int value = previous * (1 << part_.low);
    if (previous < -kJpegCoefficientMax || previous > kJpegCoefficientMax || value < -kJpegCoefficientMax ||
        value > kJpegCoefficientMax)
      return fail("a coefficient out of range");
    q[0] = int16_t(value);
    return true;
  }

  bool ac_first(JpegBits& bits, const JpegHuffman& h, int16_t* q) {
    if (skip_ > 0) {
      --skip_;
      return true;
    }
    for (int k = part_.first; k <= part_.last; ++k) {
      int value;
      if (!symbol(bits, h, value)) return fail("the scan is damaged");
      const int run = value >> 4, size = value & 15;
      if (size == 0) {
        if (run != 15) {  // this block and others end here
          skip_ = (1 << run) + take(bits, run) - 1;
          return true;
        }
        k += 15;
        continue;
      }
      k += run;
      if (k > part_.last || size > 11) return fail("the scan is damaged");
      const int level = receive(bits, size) * (1 << part_.low);
      if (level < -kJpegCoefficientMax || level > kJpegCoefficientMax) return fail("a coefficient out of range");
      q[kZigzag[k]] = int16_t(level);
    }
    return true;
  }

  bool ac_refined(JpegBits& bits, const JpegHuffman& h, int16_t* q) {
    const int bit = 1 << part_.low;
    int k = part_.first;
    // A bit for each coefficient that is not zero, up to `zeros` zeros; k stops at the next zero or behind the band.
    const auto pass = [&](int zeros) {
      for (; k <= part_.last; ++k) {
        int16_t& level = q[kZigzag[k]];
        if (level == 0) {
          if (zeros-- == 0) return;
        } else if (take(bits, 1)) {
          level = int16_t(level + (level > 0 ? bit : -bit));
        }
      }
    };
    while (skip_ == 0 && k <= part_.last) {
      int value;
      if (!symbol(bits, h, value)) return fail("the scan is damaged");
      const int run = value >> 4, size = value & 15;
      if (size > 1) return fail("the scan is damaged");
      if (size == 0 && run != 15) {
        skip_ = (1 << run) + take(bits, run);
        break;
      }
      const int level = size ? (take(bits, 1) ? bit : -bit) : 0;
      pass(run);
      if (size && k > part_.last) return fail("the scan is damaged");
      if (size) q[kZigzag[k]] = int16_t(level);
      ++k;  // the coefficient that is new, or the last of 16 zeros
    }
    if (skip_ > 0) pass(64), --skip_;
    return true;
  }

  static int take(JpegBits& bits, int n) {
    if (!n) return 0;
    if (bits.have < 16) bits.fill();
    const int v = int(bits.peek(n));
    bits.drop(n);
    return v;
  }

  static constexpr int kScans = 128;  // libjpeg writes 10
  static constexpr int8_t kNothing = -1;
  ParsedJpeg& out_;
  Part part_;
  const uint8_t* data_ = nullptr;
  bool progressive_ = false;
  int scans_ = 0, skip_ = 0;  // skip_: blocks left that end where they begin
  int8_t known_[3][64];       // lowest bit that is known of each coefficient in zigzag order
  uint16_t quant_[4][64] = {};
  bool has_quant_[4] = {}, have_frame_ = false;
  JpegHuffman huffman_[2][4];
  int restart_ = 0, h_[3] = {}, v_[3] = {}, tq_[3] = {}, dc_[3] = {}, ac_[3] = {};
};

inline void jpeg_parse(const uint8_t* tables, size_t tables_size, const uint8_t* data, size_t size, ParsedJpeg& out) {
  JpegParser parser(out);
  if (tables_size && !parser.read(tables, tables_size, true)) return;
  parser.read(data, size, false);
}

}  // namespace dlpr
