// A JPEG's bytes from a template and coefficients. Template and coefficients are not trusted: what they cannot give is
// refused, and the output is bounded by the size of both.
#pragma once
#include "jpeg/scan_writer.hpp"
#include "jpeg/template.hpp"
#include <string>

namespace dlpr {

// What marker segments say, as far as a scan's writer needs it.
class JpegHeaders {
 public:
  std::string error;
  bool have_frame = false, have_scan = false, progressive = false;
  JpegFields fields;  // size, sampling, components
  int restart = 0, quant[3] = {};
  JpegScan scan;

  // Whole marker segments, SOI among them.
  bool read(const uint8_t* p, size_t size) {
    const uint8_t* end = p + size;
    while (p < end) {
      while (end - p >= 2 && p[0] == 0xFF && p[1] == 0xFF) ++p;
      if (end - p < 2 || p[0] != 0xFF) return fail("a marker is missing");
      const int marker = p[1];
      p += 2;
      if (marker == 0xD8) continue;
      if (end - p < 2) return fail("a marker segment is cut short");
      const size_t length = size_t(p[0]) << 8 | p[1];
      if (length < 2 || length > size_t(end - p)) return fail("a marker segment is cut short");
      const uint8_t *s = p + 2, *e = p + length;
      p = e;
      bool ok = true;
      if (marker == 0xDD) ok = dri(s, e);
      else if (marker == 0xC0 || marker == 0xC1 || marker == 0xC2) progressive = marker == 0xC2, ok = sof(s, e);
      else if (marker == 0xDA) ok = sos(s, e);
      if (!ok) return false;
    }
    return true;
  }

 private:
  bool fail(const char* what) {
    error = what;
    return false;
  }
  bool dri(const uint8_t* s, const uint8_t* e) {
    if (e - s != 2) return fail("a restart interval is cut short");
    restart = s[0] << 8 | s[1];
    return true;
  }
  bool sof(const uint8_t* s, const uint8_t* e) {
    if (have_frame || e - s < 6 || e - s != 6 + 3 * s[5]) return fail("a frame header is damaged");
    fields.H = s[1] << 8 | s[2], fields.W = s[3] << 8 | s[4], fields.components = s[5];
    if (fields.components != 1 && fields.components != 3) return fail("neither one nor three components");
    for (int c = 0; c < fields.components; ++c) {
      const uint8_t* k = s + 6 + 3 * c;
      ids_[c] = k[0], quant[c] = k[2];
      const int h = k[1] >> 4, v = k[1] & 15;
      if (fields.components == 1) continue;  // its blocks stand alone, whatever the factors
      if (h < 1 || h > (c ? 1 : 2) || v < 1 || v > (c ? 1 : 2)) return fail("a sampling factor out of range");
      if (c == 0) fields.sv = v, fields.sh = h;
    }
    have_frame = true;
    return true;
  }
  bool sos(const uint8_t* s, const uint8_t* e) {
    if (!have_frame) return fail("a scan before its frame");
    scan = JpegScan();
    scan.progressive = progressive;
    if (e - s < 1 || s[0] < 1 || s[0] > fields.components || e - s != 4 + 2 * s[0])
      return fail("a scan header is damaged");
    scan.count = s[0];
    for (int i = 0, c = -1; i < scan.count; ++i) {
      for (++c; c < fields.components && ids_[c] != s[1 + 2 * i];) ++c;
      if (c >= fields.components) return fail("components in another order than the frame's");
      scan.component[i] = c, scan.dc[i] = s[2 + 2 * i] >> 4, scan.ac[i] = s[2 + 2 * i] & 15;
      if (scan.dc[i] > 3 || scan.ac[i] > 3) return fail("a table out of range");
    }
    const uint8_t* t = s + 1 + 2 * scan.count;
    scan.first = t[0], scan.last = t[1], scan.low = t[2] & 15, scan.refines = t[2] >> 4;
    if (!progressive) {
      if (scan.count != fields.components || scan.first != 0 || scan.last != 63 || t[2] != 0)
        return fail("a scan of part of the coefficients");
    } else if (scan.first > scan.last || scan.last > 63 || (scan.first == 0 && scan.last) ||
               (scan.first && scan.count > 1) || scan.low > 13) {
      return fail("a scan of coefficients out of range");
    }
    have_scan = true;
    return true;
  }
  int ids_[3] = {};
};

struct RewriteInput {
  const uint8_t* program = nullptr;  // the template
  size_t program_size = 0;
  JpegFields f;                  // size in blocks, tables
  const int16_t* q[3] = {};      // [rows][cols][64]
  int64_t first = 0, mcus = -1;  // of an interval
};

class JpegWriter {
 public:
  explicit JpegWriter(const RewriteInput& in) : in_(in) {}
  std::string error;
  std::vector<uint8_t> out;
  struct Scan {
    size_t end;
    std::vector<size_t> starts;  // of its restart intervals
  };
  std::vector<Scan> scans;  // in `out`

  // Size, sampling and components that the template is for.
  bool form(JpegFields& f) {
    TemplateReader r(in_.program, in_.program_size);
    if (!begin(r)) return false;
    bool scan = false;
    while (r.more() && !scan)
      if (!operation(r, false, scan)) return fail(kDamaged);
    if (!scan || !read_headers()) return fail(kDamaged);
    f = headers_.fields;
    return true;
  }

  bool run() {
    TemplateReader r(in_.program, in_.program_size);
    if (!begin(r)) return false;
    while (r.more()) {
      TemplateReader group = r;  // up to the next scan: read for what it says, then written
      bool scan = false;
      while (r.more() && !scan)
        if (!operation(r, false, scan)) return fail(kDamaged);
      if (!r.good || (!scan && scans.empty())) return fail(kDamaged);
      if (scan && !begin_scan()) return false;
      scan = false;
      while (group.more() && !scan)
        if (!operation(group, true, scan)) return fail(kDamaged);
      if (scan && !write_scan()) return false;
      if (interval_ && scan) return r.left() == 0 || fail(kDamaged);
    }
    return !scans.empty() || fail(kDamaged);
  }

 private:
  bool fail(const char* what) {
    if (error.empty()) error = what;
    return false;
  }

  bool begin(TemplateReader& r) {
    const int format = r.byte(), flags = r.byte();
    if (!r.good || format != kTemplateFormat || flags & ~(kTemplateInterval | kTemplateZeros))
      return fail("the template is of an unknown kind");
    interval_ = flags & kTemplateInterval, padding_ = !(flags & kTemplateZeros);
    const size_t size = r.varint();
    const uint8_t* shared = r.take(size);
    return (shared && shared_tables(shared, size)) || fail(kDamaged);
  }

  static int slot_of(int which) { return (which >> 4) * 4 + (which & 3); }
  static bool is_table(int which) { return (which & 15) <= 3 && which >> 4 <= 1; }

  bool define(int which, const HuffmanDefinition& d) {
    definitions_[slot_of(which)] = d;
    made_[slot_of(which)] = false;
    return known_[slot_of(which)] = codes_[slot_of(which)].build(d);
  }

  // Huffman tables of an abbreviated JPEG.
  bool shared_tables(const uint8_t* p, size_t size) {
    const uint8_t* end = p + size;
    while (end - p >= 4) {
      if (p[0] != 0xFF) return false;
      if (p[1] == 0xFF || p[1] == 0xD8 || p[1] == 0xD9) {
        p += p[1] == 0xFF ? 1 : 2;
        continue;
      }
      const size_t length = size_t(p[2]) << 8 | p[3];
      if (length < 2 || length > size_t(end - p) - 2) return false;
      const uint8_t* e = p + 2 + length;
      for (const uint8_t* s = p + 4; p[1] == 0xC4 && s < e;) {
        HuffmanDefinition d;
        const int n = definition(s + 1, e, d);
        if (n < 0 || !is_table(*s)) return false;
        define(*s, d);
        s += 1 + n;
      }
      p = e;
    }
    return true;
  }

  bool operation(TemplateReader& r, bool write, bool& scan) {
    const int op = r.byte();
    if (op == kOpDht) return dht(r, write);
    if (op == kOpDqt) return dqt(r, write);
    if (op == kOpScan) return scan = true;
    if (op != kOpRaw) return false;
    const size_t n = r.varint();
    const uint8_t* p = r.take(n);
    if (!p) return false;
    if (write) put(p, n);
    else raw_.push_back({p, n});
    return true;
  }

  void put(const uint8_t* p, size_t n) {
    if (!interval_) out.insert(out.end(), p, p + n);
  }

  // Marker and length of a segment, to be written over once its end is known.
  size_t begin_segment(uint8_t marker, bool write) {
    const uint8_t head[4] = {0xFF, marker, 0, 0};
    if (write) put(head, 4);
    return out.size();
  }
  bool end_segment(size_t from, bool write) {
    if (interval_ || !write) return true;
    const size_t length = out.size() - from + 2;
    out[from - 2] = uint8_t(length >> 8), out[from - 1] = uint8_t(length);
    return length <= 65535;
  }

  bool dht(TemplateReader& r, bool write) {
    const size_t from = begin_segment(0xC4, write);
    for (size_t n = r.varint(); n && r.good; --n) {
      const int which = r.byte(), kind = r.byte();
      if (!r.good || !is_table(which) || kind > kDhtMade) return false;
      if (kind == kDhtMade) {
        if (!write) made_[slot_of(which)] = true;
      } else {
        HuffmanDefinition d;
        if (kind == kDhtExplicit) {
          const int size = definition(r.p, r.end, d);
          if (size < 0) return false;
          r.take(size_t(size));
        } else {
          d = standard_table(kind - kDhtStandard);
        }
        define(which, d);
      }
      if (!write) continue;
      const HuffmanDefinition& d = definitions_[slot_of(which)];
      const uint8_t name = uint8_t(which);
      put(&name, 1), put(d.counts, 16), put(d.values, size_t(d.size()));
    }
    return end_segment(from, write);
  }

  bool dqt(TemplateReader& r, bool write) {
    const size_t from = begin_segment(0xDB, write);
    for (size_t n = r.varint(); n && r.good; --n) {
      const uint8_t which = r.byte(), kind = r.byte(), wide = which >> 4;
      if (!r.good || wide > 1 || kind > in_.f.components) return false;
      uint8_t steps[128];
      if (kind == kDqtExplicit) {
        const uint8_t* p = r.take(size_t(64) << wide);
        if (!p) return false;
        std::copy_n(p, 64 << wide, steps);
      } else {
        for (int k = 0; k < 64; ++k) {
          const uint16_t v = in_.f.tables[kind - kDqtComponent][kZigzag[k]];
          if (wide) steps[2 * k] = uint8_t(v >> 8), steps[2 * k + 1] = uint8_t(v);
          else steps[k] = uint8_t(v);
        }
      }
      if (write) put(&which, 1), put(steps, size_t(64) << wide);
    }
    return end_segment(from, write);
  }

  // What the segments before a scan say.
  bool read_headers() {
    headers_.have_scan = false;
    for (const auto& [p, n] : raw_)
      if (!headers_.read(p, n)) return fail(headers_.error.c_str());
    raw_.clear();
    if (interval_ && headers_.progressive) return fail("a progressive scan");
    return headers_.have_scan || fail("a scan without header");
  }

  // Checks a scan, and makes the tables that follow from it.
  bool begin_scan() {
    if (!read_headers()) return false;
    const bool progressive = headers_.progressive;
    if (scans.size() >= (progressive ? kMostScans : 1)) return fail("more scans than a JPEG needs");
    f_ = headers_.fields;
    if (interval_) f_.H = in_.f.H, f_.W = in_.f.W;
    if (f_.components != in_.f.components || f_.sv != in_.f.sv || f_.sh != in_.f.sh || f_.H < 1 || f_.W < 1 ||
        f_.mcu_rows() != in_.f.mcu_rows() || f_.mcu_cols() != in_.f.mcu_cols())
      return fail("the coefficients are those of a JPEG of another size or sampling");
    const JpegScan& s = headers_.scan;
    const bool dc = !progressive || (s.first == 0 && !s.refines), ac = !progressive || s.first > 0;
    bool used[kHuffmanSlots] = {}, make = false;
    for (int i = 0; i < s.count; ++i) used[s.dc[i]] = used[s.dc[i]] || dc, used[4 + s.ac[i]] = used[4 + s.ac[i]] || ac;
    for (int slot = 0; slot < kHuffmanSlots; ++slot) make = make || made_[slot];
    SymbolCounter counter;
    if (make) ScanCoder<SymbolCounter>(f_, in_.q, s, counter).run(interval_ ? 0 : headers_.restart);
    for (int slot = 0; slot < kHuffmanSlots; ++slot) {
      if (made_[slot]) {
        HuffmanDefinition& d = definitions_[slot];
        if (!used[slot] || !libjpeg_table(counter.counts[slot], d) || !codes_[slot].build(d))
          return fail("libjpeg makes no Huffman table here");
        known_[slot] = true, made_[slot] = false;
      }
      if (used[slot] && !known_[slot]) return fail("a Huffman table is missing");
    }
    return true;
  }

  bool write_scan() {
    ScanWriter writer(codes_, padding_);
    ScanCoder<ScanWriter> coder(f_, in_.q, headers_.scan, writer);
    if (interval_) coder.run(0, in_.first, in_.mcus);
    else coder.run(headers_.restart);
    writer.flush();
    if (!writer.good()) return fail("a coefficient has no code in the Huffman tables");
    scans.push_back({out.size() + writer.size(), writer.starts});
    for (size_t& at : scans.back().starts) at += out.size();
    out.insert(out.end(), writer.data(), writer.data() + writer.size());
    return true;
  }

  static constexpr size_t kMostScans = 128;  // as many as the parser takes
  static constexpr const char* kDamaged = "the template is damaged";
  const RewriteInput& in_;
  JpegHeaders headers_;
  JpegFields f_;
  bool interval_ = false;
  int padding_ = 1;
  std::vector<std::pair<const uint8_t*, size_t>> raw_;
  bool known_[kHuffmanSlots] = {}, made_[kHuffmanSlots] = {};
  HuffmanDefinition definitions_[kHuffmanSlots];
  HuffmanCode codes_[kHuffmanSlots];
};

}  // namespace dlpr
