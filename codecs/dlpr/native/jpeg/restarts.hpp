// A sequential Huffman JPEG without restart markers, written anew with one behind each row of MCUs: the same
// coefficients, and each row can be read by itself. Only the first DC of each component in a row gets other bits.
#pragma once
#include "jpeg/parse.hpp"

namespace dlpr {

struct RestartedScan {
  std::vector<uint8_t> data;     // entropy-coded bytes of all rows, markers between them
  std::vector<uint64_t> starts;  // of each row in `data`
  int mcu_cols = 0;
  std::string error;  // empty: good
};

class JpegRestarts {
 public:
  JpegRestarts(const uint8_t* head, size_t head_size, const uint8_t* scan, size_t size, RestartedScan& out)
      : out_(out), bits_(scan, scan + size), size_(size) {
    if (head_size < 4) fail("a marker is missing");
    else if (header(head, head + head_size) && rows() && bits_.overrun()) fail("the scan is cut short");
  }

 private:
  struct Component {
    int id = 0, h = 1, v = 1, dc = 0, ac = 0, previous = 0;
  };
  struct Code {
    uint32_t bits = 0;
    int length = 0;
  };

  bool fail(const char* what) {
    if (out_.error.empty()) out_.error = what;
    return false;
  }

  // Markers up to SOS.
  bool header(const uint8_t* p, const uint8_t* end) {
    bool frame = false;
    p += 2;
    while (end - p >= 4 && p[0] == 0xFF) {
      const int marker = p[1];
      const size_t length = size_t(p[2]) << 8 | p[3];
      if (length < 2 || length > size_t(end - p) - 2) return fail("a marker segment is cut short");
      const uint8_t *s = p + 4, *e = p + 2 + length;
      p = e;
      if (marker == 0xC4 && !tables(s, e)) return false;
      if (marker == 0xC0 || marker == 0xC1) {
        if (e - s != 15 || s[5] != 3) return fail("not three components");
        height_ = s[1] << 8 | s[2], width_ = s[3] << 8 | s[4];
        for (int c = 0; c < 3; ++c) {
          component_[c].id = s[6 + 3 * c], component_[c].h = s[7 + 3 * c] >> 4, component_[c].v = s[7 + 3 * c] & 15;
          if (component_[c].h < 1 || component_[c].h > 2 || component_[c].v < 1 || component_[c].v > 2)
            return fail("a sampling factor out of range");
        }
        frame = width_ > 0 && height_ > 0;
      }
      if (marker != 0xDA) continue;
      if (!frame || e - s != 10 || s[0] != 3) return fail("a scan that is not of all components");
      for (int c = 0; c < 3; ++c) {
        component_[c].dc = s[2 + 2 * c] >> 4, component_[c].ac = s[2 + 2 * c] & 15;
        if (s[1 + 2 * c] != component_[c].id || component_[c].dc > 3 || component_[c].ac > 3 ||
            !huffman_[0][component_[c].dc].present || !huffman_[1][component_[c].ac].present)
          return fail("a Huffman table is missing");
      }
      return true;
    }
    return fail("a marker is missing");
  }

  bool tables(const uint8_t* s, const uint8_t* e) {
    while (s < e) {
      const int kind = *s >> 4, id = *s & 15;
      if (kind > 1 || id > 3 || e - s < 17) return fail("a Huffman table is cut short");
      int count = 0;
      for (int i = 1; i <= 16; ++i) count += s[i];
      if (count > 256 || e - s < 17 + count) return fail("a Huffman table is cut short");
      JpegHuffman& h = huffman_[kind][id];
      std::copy_n(s + 17, count, h.values);
      if (!h.build(s)) return fail("a Huffman table is no prefix code");
      if (kind == 0) {
        std::fill(codes_[id], codes_[id] + 12, Code{});
        uint32_t code = 0;
        for (int length = 1, k = 0; length <= 16; ++length, code <<= 1)
          for (int i = 0; i < s[length]; ++i, ++k, ++code)
            if (h.values[k] < 12) codes_[id][h.values[k]] = {code, length};
      }
      s += 17 + count;
    }
    return true;
  }

  bool rows() {
    int h = 1, v = 1;
    for (const auto& c : component_) h = std::max(h, c.h), v = std::max(v, c.v);
    const int cols = (width_ + 8 * h - 1) / (8 * h), down = (height_ + 8 * v - 1) / (8 * v);
    if (size_t(cols) * down / 4 * 3 > size_) return fail("the scan is too short for its image");  // 2 bits a block
    out_.mcu_cols = cols;
    out_.data.reserve(size_ + size_t(down) * 8);
    for (int y = 0; y < down; ++y) {
      if (y) {
        pad();
        out_.data.push_back(0xFF), out_.data.push_back(uint8_t(0xD0 + (y - 1) % 8));
      }
      out_.starts.push_back(out_.data.size());
      bool first[3] = {true, true, true};
      for (int x = 0; x < cols; ++x) {
        for (int c = 0; c < 3; ++c)
          for (int b = 0; b < component_[c].h * component_[c].v; ++b, first[c] = false)
            if (!block(component_[c], first[c])) return false;
        if (bits_.overrun()) return fail("the scan is cut short");
      }
    }
    pad();
    return true;
  }

  bool block(Component& c, bool first) {
    int length, value;
    if (!symbol(huffman_[0][c.dc], value, length) || value > 11) return fail("the scan is damaged");
    const uint32_t raw = bits_.peek(length + value);
    c.previous += magnitude(raw, value);
    if (c.previous < -kJpegCoefficientMax || c.previous > kJpegCoefficientMax)
      return fail("a coefficient out of range");
    if (!first) {
      put(raw, length + value);
    } else if (!level(c)) {
      return false;
    }
    bits_.drop(length + value);
    for (int k = 1; k < 64; ++k) {
      if (!symbol(huffman_[1][c.ac], value, length)) return fail("the scan is damaged");
      const int run = value >> 4, extra = value & 15;
      if (extra > 11) return fail("the scan is damaged");
      put(bits_.peek(length + extra), length + extra);
      bits_.drop(length + extra);
      if (extra == 0 && run != 15) break;
      k += run;
      if (k > 63) return fail("the scan is damaged");
    }
    return true;
  }

  // The DC of a row's first block, from nothing before it.
  bool level(const Component& c) {
    int size = 0;
    for (int rest = std::abs(c.previous); rest; rest >>= 1) ++size;
    const Code& code = codes_[c.dc][size];
    if (!code.length) return fail("a Huffman table lacks what a row's first DC needs");
    put(code.bits, code.length);
    if (size) put(uint32_t(c.previous < 0 ? c.previous - 1 : c.previous) & ((1u << size) - 1), size);
    return true;
  }

  static int magnitude(uint32_t raw, int size) {
    if (!size) return 0;
    const int v = int(raw & ((1u << size) - 1));
    return v < 1 << (size - 1) ? v - (1 << size) + 1 : v;
  }

  bool symbol(const JpegHuffman& h, int& value, int& length) {
    if (bits_.have < 32) bits_.fill();
    const int fast = h.fast[bits_.peek(8)];
    if (fast >= 0) {
      value = fast & 255, length = fast >> 8;
      return true;
    }
    for (length = 9; length <= 16; ++length) {
      const int32_t code = int32_t(bits_.peek(length));
      if (h.max_code[length] >= 0 && code <= h.max_code[length] && code + h.offset[length] >= 0) {
        value = h.values[(code + h.offset[length]) & 255];
        return true;
      }
    }
    return false;
  }

  void put(uint32_t value, int n) {
    held_ = held_ << n | value, count_ += n;
    while (count_ >= 8) {
      count_ -= 8;
      const uint8_t byte = uint8_t(held_ >> count_);
      out_.data.push_back(byte);
      if (byte == 0xFF) out_.data.push_back(0);
    }
  }

  void pad() {
    if (count_) put((1u << (8 - count_)) - 1, 8 - count_);
  }

  RestartedScan& out_;
  JpegBits bits_;
  size_t size_;
  uint64_t held_ = 0;
  int count_ = 0, width_ = 0, height_ = 0;
  Component component_[3];
  JpegHuffman huffman_[2][4];
  Code codes_[4][12];
};

}  // namespace dlpr
