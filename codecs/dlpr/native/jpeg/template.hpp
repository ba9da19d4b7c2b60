// A JPEG without its entropy-coded bits, as a list of operations in bytes (codecs/dlpr/modes/jpeg/rewrite.py).
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace dlpr {

constexpr uint8_t kTemplateFormat = 1;
constexpr int kTemplateInterval = 1, kTemplateZeros = 2;  // flags: entropy-coded bytes alone; padded with zeros

enum TemplateOp : uint8_t {
  kOpRaw = 0,   // length, bytes: whole marker segments, or whatever stands behind the last scan
  kOpDht = 1,   // number of tables; for each class << 4 | id, kind, the definition where it is explicit
  kOpDqt = 2,   // number of tables; for each precision << 4 | id, kind, the steps where they are explicit
  kOpScan = 3,  // entropy-coded data
};
// Kinds of Huffman tables: 1..4 are those of annex K.3.
constexpr uint8_t kDhtExplicit = 0, kDhtStandard = 1, kDhtMade = 5;  // made: libjpeg's for the scan that follows
constexpr uint8_t kDqtExplicit = 0, kDqtComponent = 1;               // 1 + c: the steps of component c

inline void put_varint(std::vector<uint8_t>& out, uint64_t v) {
  for (; v >= 128; v >>= 7) out.push_back(uint8_t(v | 128));
  out.push_back(uint8_t(v));
}

// Bytes that are not trusted.
struct TemplateReader {
  const uint8_t *p, *end;
  bool good = true;
  TemplateReader(const uint8_t* data, size_t size) : p(data), end(data + size) {}
  bool more() const { return good && p < end; }
  size_t left() const { return size_t(end - p); }
  uint8_t byte() {
    if (p < end) return *p++;
    good = false;
    return 0;
  }
  size_t varint() {
    uint64_t v = 0;
    for (int shift = 0; shift < 35; shift += 7) {
      const uint8_t b = byte();
      v |= uint64_t(b & 127) << shift;
      if (b < 128) return size_t(v);
    }
    good = false;
    return 0;
  }
  const uint8_t* take(size_t n) {
    if (!good || n > left()) {
      good = false;
      return nullptr;
    }
    p += n;
    return p - n;
  }
};

}  // namespace dlpr
