// A JPEG taken apart: coefficients, the template, and where what the template gives differs from its bytes.
#pragma once
#include "jpeg/parse.hpp"
#include "jpeg/rewrite.hpp"

namespace dlpr {

// In place of `removed` bytes at `at` of what is made, the data has `inserted`.
struct Splice {
  size_t at, removed;
  const uint8_t* inserted;
  size_t size;
};

struct SplitJpeg {
  ParsedJpeg parsed;
  std::vector<uint8_t> program;  // the template
  std::vector<Splice> splices;   // ascending; they point into the data
  std::string error;
};

// Builds a template from a JPEG that the parser has read.
class TemplateBuilder {
 public:
  // `make`: Huffman tables that are not standard are those that libjpeg makes.
  TemplateBuilder(const ParsedJpeg& parsed, bool make) : parsed_(parsed), make_(make) {}
  std::vector<uint8_t> out;

  void begin(int flags, const uint8_t* tables, size_t size) {
    out = {kTemplateFormat, uint8_t(flags)};
    put_varint(out, size);
    out.insert(out.end(), tables, tables + size);
  }

  // Marker segments from p to end, up to and with SOS; `few`: only those that entropy-coded bytes depend on.
  void segments(const uint8_t* p, const uint8_t* end, bool few = false) {
    const uint8_t* from = p;  // of what is copied as it is
    while (end - p >= 4) {
      if (p[1] == 0xFF || p[1] == 0xD8) {  // fill byte, SOI
        p += p[1] == 0xFF ? 1 : 2;
        continue;
      }
      const size_t length = size_t(p[2]) << 8 | p[3];
      if (p[0] != 0xFF || length < 2 || length > size_t(end - p) - 2) break;
      const uint8_t* e = p + 2 + length;
      const int marker = p[1];
      if (few && marker != 0xC4 && marker != 0xC0 && marker != 0xC1 && marker != 0xC2 && marker != 0xDA) {
        raw(from, p);
        from = p = e;
        continue;
      }
      if (marker == 0xC4 || marker == 0xDB) {
        std::vector<uint8_t> op;
        if (marker == 0xC4 ? dht(p + 4, e, op) : dqt(p + 4, e, op)) {
          raw(from, p);
          out.insert(out.end(), op.begin(), op.end());
          from = e;
        }
      }
      p = e;
    }
    raw(from, end);
  }
  void raw(const uint8_t* from, const uint8_t* to) {
    if (to <= from) return;
    out.push_back(kOpRaw);
    put_varint(out, size_t(to - from));
    out.insert(out.end(), from, to);
  }
  void scan() { out.push_back(kOpScan); }

 private:
  bool dht(const uint8_t* s, const uint8_t* e, std::vector<uint8_t>& op) {
    std::vector<uint8_t> tables;
    int count = 0;
    for (; s < e; ++count) {
      HuffmanDefinition d;
      const int n = definition(s + 1, e, d);
      if (n < 0) return false;
      int kind = kDhtExplicit;
      for (int t = 0; t < kStandardTables; ++t)
        if (standard_table(t) == d) kind = kDhtStandard + t;
      if (kind == kDhtExplicit && make_) kind = kDhtMade;
      tables.push_back(*s), tables.push_back(uint8_t(kind));
      if (kind == kDhtExplicit) tables.insert(tables.end(), s + 1, s + 1 + n);
      s += 1 + n;
    }
    op.push_back(kOpDht);
    put_varint(op, uint64_t(count));
    op.insert(op.end(), tables.begin(), tables.end());
    return true;
  }

  bool dqt(const uint8_t* s, const uint8_t* e, std::vector<uint8_t>& op) {
    std::vector<uint8_t> tables;
    int count = 0;
    for (; s < e; ++count) {
      const int wide = *s >> 4, n = 64 << wide;
      if (wide > 1 || e - s < 1 + n) return false;
      int kind = kDqtExplicit;
      for (int c = parsed_.fields.components - 1; c >= 0; --c) {
        bool equal = true;
        for (int k = 0; equal && k < 64; ++k)
          equal = parsed_.fields.tables[c][kZigzag[k]] == (wide ? s[1 + 2 * k] << 8 | s[2 + 2 * k] : s[1 + k]);
        if (equal) kind = kDqtComponent + c;
      }
      tables.push_back(*s), tables.push_back(uint8_t(kind));
      if (kind == kDqtExplicit) tables.insert(tables.end(), s + 1, s + 1 + n);
      s += 1 + n;
    }
    op.push_back(kOpDqt);
    put_varint(op, uint64_t(count));
    op.insert(op.end(), tables.begin(), tables.end());
    return true;
  }

  const ParsedJpeg& parsed_;
  bool make_;
};

// The template of restart intervals whose JPEG has these segments up to and with SOS.
inline std::vector<uint8_t> interval_template(const ParsedJpeg& parsed, const uint8_t* head, size_t size, int flags) {
  TemplateBuilder builder(parsed, false);
  builder.begin(flags | kTemplateInterval, nullptr, 0);
  builder.segments(head, head + size, true);
  builder.scan();
  return builder.out;
}

class JpegSplitter {
 public:
  JpegSplitter(const uint8_t* data, size_t size, SplitJpeg& out) : data_(data), size_(size), out_(out) {}

  // A JPEG; `shared` holds tables that it lacks.
  void image(const uint8_t* shared, size_t shared_size) {
    jpeg_parse(shared, shared_size, data_, size_, out_.parsed);
    out_.error = out_.parsed.error;
    if (!out_.error.empty()) return;
    // Tables as libjpeg would make them if that gives them, else as they are; then the other padding.
    size_t price = image_with(true, 0, shared, shared_size);
    const bool make = price != kNone;
    if (!make) price = image_with(false, 0, shared, shared_size);
    if (price != kNone && price > 0) image_with(make, kTemplateZeros, shared, shared_size, price);
  }

  // The entropy-coded bytes of MCUs; `head` holds the segments up to and with SOS.
  void interval(const uint8_t* head, size_t head_size, int rows, int columns) {
    std::vector<uint8_t> whole(head, head + head_size);
    if (!set_size(whole, rows, columns)) return;
    const size_t before = whole.size();
    whole.insert(whole.end(), data_, data_ + size_);
    jpeg_parse(nullptr, 0, whole.data(), whole.size(), out_.parsed);
    out_.error = out_.parsed.error;
    if (!out_.error.empty()) return;
    if (out_.parsed.scans.size() != 1 || out_.parsed.scans[0].begin != before) {
      out_.error = "the head of an interval does not end with SOS";
      return;
    }
    const size_t price = interval_with(head, head_size, 0);
    if (price != kNone && price > 0) interval_with(head, head_size, kTemplateZeros, price);
  }

 private:
  static constexpr size_t kNone = size_t(-1);

  // Builds a template, and keeps it where it costs less than `limit`; what it costs, kNone where it gives other
  // headers.
  size_t image_with(bool make, int flags, const uint8_t* shared, size_t shared_size, size_t limit = kNone) {
    const auto& scans = out_.parsed.scans;
    TemplateBuilder builder(out_.parsed, make);
    builder.begin(flags, shared, shared_size);
    size_t at = 0;
    for (const auto& scan : scans) {
      builder.segments(data_ + at, data_ + scan.begin);
      builder.scan();
      at = scan.end;
    }
    const uint8_t *p = data_ + at, *end = data_ + size_;
    static const uint8_t kEoi[] = {0xFF, 0xD9};
    if (const uint8_t* e = std::search(p, end, kEoi, kEoi + 2); e < end) {
      if (e - p != 6 || p[0] != 0xFF || p[1] != 0xDC) p = e;  // DNL stays, other bytes are this JPEG's own
      e += end - e <= 2 + kTail ? end - e : 2;
      builder.raw(p, e);
    }
    return try_out(builder.out, limit);
  }

  size_t interval_with(const uint8_t* head, size_t head_size, int flags, size_t limit = kNone) {
    return try_out(interval_template(out_.parsed, head, head_size, flags), limit);
  }

  size_t try_out(const std::vector<uint8_t>& program, size_t limit) {
    RewriteInput in;
    in.program = program.data(), in.program_size = program.size(), in.f = out_.parsed.fields;
    for (int c = 0; c < in.f.components; ++c) in.q[c] = out_.parsed.q[c].data();
    JpegWriter writer(in);
    std::vector<Splice> splices;
    if (!writer.run()) {
      out_.error = writer.error;
      return kNone;
    }
    if (!compare(program[1] & kTemplateInterval, writer, splices)) {
      out_.error = "headers that a template cannot hold";
      return kNone;
    }
    size_t price = 0;
    for (const Splice& s : splices) price += 4 + s.size;
    if (price >= limit) return kNone;
    out_.error.clear();
    out_.program = program, out_.splices = splices;
    return price;
  }

  bool compare(bool interval, const JpegWriter& made, std::vector<Splice>& out) const {
    size_t a = 0, b = 0;  // compared so far: of what was made, of the data
    for (size_t i = 0; i < made.scans.size(); ++i) {
      const auto& scan = made.scans[i];
      const ParsedJpeg::Range range = interval ? ParsedJpeg::Range{0, size_} : out_.parsed.scans[i];
      const size_t n = scan.starts[0] - a;
      if (range.begin - b != n || !std::equal(data_ + b, data_ + range.begin, made.out.begin() + std::ptrdiff_t(a)))
        return false;
      std::vector<size_t> starts{range.begin};
      if (!interval)
        for (size_t k = range.begin; k + 1 < range.end; ++k)
          if (data_[k] == 0xFF && data_[k + 1] >= 0xD0 && data_[k + 1] <= 0xD7) starts.push_back(k + 2);
      if (starts.size() == scan.starts.size()) {
        for (size_t k = 0; k < starts.size(); ++k) {
          const bool last = k + 1 == starts.size();
          splice(made, scan.starts[k], last ? scan.end : scan.starts[k + 1], starts[k],
                 last ? range.end : starts[k + 1], out);
        }
      } else {
        splice(made, scan.starts[0], scan.end, range.begin, range.end, out);
      }
      a = scan.end, b = range.end;
    }
    splice(made, a, made.out.size(), b, size_, out);
    return true;
  }

  // What differs of two ranges, save for what they begin and end with.
  void splice(const JpegWriter& made, size_t a, size_t a_end, size_t b, size_t b_end, std::vector<Splice>& out) const {
    const uint8_t* m = made.out.data();
    while (a < a_end && b < b_end && m[a] == data_[b]) ++a, ++b;
    while (a < a_end && b < b_end && m[a_end - 1] == data_[b_end - 1]) --a_end, --b_end;
    if (a < a_end || b < b_end) out.push_back({a, a_end - a, data_ + b, b_end - b});
  }

  // The frame's size in MCUs and no restart interval, written into the segments of an interval.
  bool set_size(std::vector<uint8_t>& head, int rows, int columns) {
    size_t p = 0;
    while (p + 4 <= head.size()) {
      if (head[p] != 0xFF) break;
      const int marker = head[p + 1];
      if (marker == 0xFF || marker == 0xD8) {
        p += marker == 0xFF ? 1 : 2;
        continue;
      }
      const size_t e = p + 2 + (size_t(head[p + 2]) << 8 | head[p + 3]);
      if (e > head.size()) break;
      if ((marker == 0xC0 || marker == 0xC1) && e >= p + 13) {
        const bool one = head[p + 9] == 1;
        const int64_t height = int64_t(rows) * 8 * (one ? 1 : head[p + 11] & 15);
        const int64_t width = int64_t(columns) * 8 * (one ? 1 : head[p + 11] >> 4);
        if (height < 1 || width < 1 || height > 65535 || width > 65535) {
          out_.error = "an interval of a size that no JPEG has";
          return false;
        }
        head[p + 5] = uint8_t(height >> 8), head[p + 6] = uint8_t(height);
        head[p + 7] = uint8_t(width >> 8), head[p + 8] = uint8_t(width);
      } else if (marker == 0xDD && e == p + 6) {
        head[p + 4] = head[p + 5] = 0;
      }
      p = e;
    }
    return true;
  }

  static constexpr std::ptrdiff_t kTail = 2;  // bytes behind EOI that fill up to some size, and not one tile's junk
  const uint8_t* data_;
  size_t size_;
  SplitJpeg& out_;
};

}  // namespace dlpr
