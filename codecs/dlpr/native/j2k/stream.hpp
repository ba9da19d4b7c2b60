// What a JPEG 2000 codestream says beside its coefficients, and the parser of its markers (Part 1, Annexes A and I).
// Bytes are not trusted: every read is bounded, and sizes are checked against limits before memory is taken.
#pragma once
#include "j2k/bands.hpp"
#include "j2k/tier1.hpp"
#include <cstring>
#include <map>
#include <string>

namespace dlpr {

constexpr int64_t kJ2kMaxPrecincts = 1 << 20;
constexpr int64_t kJ2kMaxPackets = 1 << 22;
constexpr size_t kJ2kMaxVolumes = 64;  // progression order changes

// One volume of packets (a line of POC, or all of COD's order).
struct J2kVolume {
  int order = 0;  // 0 LRCP, 1 RLCP, 2 RPCL, 3 PCRL, 4 CPRL
  int first_resolution = 0, end_resolution = kJ2kMaxLevels + 1;
  int first_component = 0, end_component = 3;
  int end_layer = 65535;
};

// A tile part: where its header begins (SOT), where its packets lie.
struct J2kPart {
  int tile = 0;
  size_t sot = 0, body = 0, end = 0;
};

struct J2kStream {
  J2kFields fields;
  int style[3] = {};  // J2kStyle
  uint8_t precinct_h[3][kJ2kMaxLevels + 1] = {}, precinct_w[3][kJ2kMaxLevels + 1] = {};
  int layers = 1;
  bool sop = false, eph = false;                       // markers around packet headers may, must occur
  std::vector<J2kVolume> volumes;                      // of all tiles
  std::map<int, std::vector<J2kVolume>> tile_volumes;  // POC of single tiles
  std::vector<J2kPart> parts;
  size_t begin = 0, end = 0;  // the codestream in the file: SOC .. after the last tile part (EOC)
  const std::vector<J2kVolume>& volumes_of(int tile) const {
    const auto own = tile_volumes.find(tile);
    return own == tile_volumes.end() ? volumes : own->second;
  }
  // Numbers of the parts of each tile, once all parts are known.
  std::vector<std::vector<size_t>> parts_by_tile() const {
    std::vector<std::vector<size_t>> out(size_t(fields.tile_rows()) * fields.tile_cols());
    for (size_t i = 0; i < parts.size(); ++i) out[size_t(parts[i].tile)].push_back(i);
    return out;
  }
};

class J2kParser {
 public:
  std::string error;  // empty: good

  bool read(const uint8_t* data, size_t size, J2kStream& out) {
    data_ = data, size_ = size, s_ = &out;
    size_t begin = 0, end = size;
    if (size >= 12 && !std::memcmp(data, "\0\0\0\14jP  \r\n\x87\n", 12) && !boxes(&begin, &end)) return false;
    if (end - begin < 4 || u2(begin) != 0xFF4F) return fail("no JPEG 2000 codestream: it does not begin with FF 4F");
    s_->begin = begin;
    return main_header(begin + 2, end) && tile_parts(end);
  }

  // A file without its packets: the codestream begins at `begin` and has `count` tile parts, whose bodies are empty.
  bool read_template(const uint8_t* data, size_t size, size_t begin, size_t count, J2kStream& out) {
    data_ = data, size_ = size, s_ = &out;
    if (begin > size || size - begin < 4 || u2(begin) != 0xFF4F) return fail("no JPEG 2000 codestream");
    s_->begin = begin;
    if (!main_header(begin + 2, size)) return false;
    size_t at = first_part_;
    if (count > size / 14) return fail("a tile part is cut short");
    for (size_t i = 0; i < count; ++i) {
      J2kPart part;
      part.sot = at, part.end = size;
      if (size - at < 14 || u2(at) != 0xFF90) return fail("a tile part does not begin with SOT");
      part.tile = int(u2(at + 4));
      if (part.tile >= s_->fields.tile_rows() * s_->fields.tile_cols()) return fail("a tile that is not in the image");
      if (!part_header(part)) return false;
      at = part.end = part.body;
      s_->parts.push_back(part);
    }
    s_->end = at;
    return true;
  }

 private:
  bool fail(const std::string& what) {
    if (error.empty()) error = what;
    return false;
  }
  uint32_t u1(size_t i) const { return data_[i]; }
  uint32_t u2(size_t i) const { return uint32_t(data_[i]) << 8 | data_[i + 1]; }
  uint32_t u4(size_t i) const { return u2(i) << 16 | u2(i + 2); }

  // JP2: where the first codestream lies. What changes samples is refused.
  bool boxes(size_t* begin, size_t* end) {
    size_t at = 12, until = size_;
    int depth = 0;
    for (int count = 0; count < 1000; ++count) {
      if (depth && at == until) depth = 0, until = size_;
      if (until - at < 8) return fail("a JP2 file without a codestream");
      uint64_t length = u4(at);
      const uint32_t kind = u4(at + 4);
      size_t head = 8;
      if (length == 1) {
        if (until - at < 16) return fail("a JP2 box is cut short");
        length = uint64_t(u4(at + 8)) << 32 | u4(at + 12), head = 16;
      } else if (length == 0) {
        length = until - at;
      }
      if (length < head || length > until - at) return fail("a JP2 box is cut short");
      const size_t box = at + head, after = at + size_t(length);
      if (kind == 0x6A703263) {  // jp2c
        *begin = box, *end = after;
        return true;
      }
      if (kind == 0x6A703268 && !depth) {  // jp2h
        at = box, until = after, depth = 1;
        continue;
      }
      if (depth && (kind == 0x70636C72 || kind == 0x636D6170)) return fail("a JP2 palette");
      if (depth && kind == 0x636F6C72 && after - box >= 7 && data_[box] == 1) {  // colr, enumerated
        const uint32_t space = u4(box + 3);
        if (space != 16 && space != 17) return fail("a JP2 colour space that is neither sRGB nor grey");
      }
      if (depth && kind == 0x63646566 && after - box >= 2) {  // cdef: channels in order, none of them opacity
        const uint32_t n = u2(box);
        if (after - box != 2 + 6 * size_t(n)) return fail("a damaged JP2 channel definition");
        for (uint32_t i = 0; i < n; ++i)
          if (u2(box + 2 + 6 * i) != i || u2(box + 4 + 6 * i) != 0 || u2(box + 6 + 6 * i) != i + 1)
            return fail("JP2 channels out of order or with opacity");
      }
      at = after;
    }
    return fail("too many JP2 boxes");
  }

  // Parameters in a tile's header that say what the main header says, as OpenJPEG 2.0 writes them.
  bool repeated(uint32_t marker, size_t p, size_t n) {
    const size_t number = marker == 0xFF53 || marker == 0xFF5D ? (n ? u1(p) : 3) : 0;
    if (number >= size_t(s_->fields.components)) return false;
    if (marker == 0xFF52) return n == cod_length_ && !std::memcmp(data_ + p, data_ + cod_at_, n);
    if (marker == 0xFF53) {
      Coding c;
      return n >= 7 && u1(p + 1) <= 1 && coding(p + 2, n - 2, u1(p + 1) & 1, c) &&
             c.same(coc_[number].set ? coc_[number] : cod_);
    }
    Quant q;
    if (marker == 0xFF5D) return quant(p + 1, n - 1, q) && q.same(qcc_[number].set ? qcc_[number] : qcd_);
    return quant(p, n, q) && q.same(qcd_);
  }

  struct Quant {
    bool set = false;
    int style = 0, guard = 0, count = 0;
    uint8_t exponent[3 * kJ2kMaxLevels + 1] = {};
    uint16_t mantissa[3 * kJ2kMaxLevels + 1] = {};
    bool same(const Quant& o) const {
      return style == o.style && guard == o.guard && std::equal(exponent, std::end(exponent), o.exponent) &&
             std::equal(mantissa, std::end(mantissa), o.mantissa);
    }
  };
  struct Coding {
    bool set = false;
    int levels = 0, xcb = 6, ycb = 6, style = 0, wavelet = 0;
    uint8_t precincts[kJ2kMaxLevels + 1] = {};
    bool same(const Coding& o) const {
      return levels == o.levels && xcb == o.xcb && ycb == o.ycb && style == o.style && wavelet == o.wavelet &&
             std::equal(precincts, std::end(precincts), o.precincts);
    }
  };

  bool main_header(size_t at, size_t end) {
    bool siz_seen = false;
    for (;;) {
      if (end - at < 4) return fail("the main header is cut short");
      const uint32_t marker = u2(at);
      if (marker == 0xFF90) break;
      const size_t length = u2(at + 2);
      if (marker < 0xFF30 || length < 2 || length > end - at - 2) return fail("a damaged marker in the main header");
      const size_t p = at + 4, n = length - 2;
      bool ok = true;
      if (marker == 0xFF51) ok = !siz_seen && siz(p, n), siz_seen = true;
      else if (!siz_seen && marker != 0xFF50) return fail("the main header does not begin with SIZ");
      else if (marker == 0xFF50) return fail("high throughput blocks (Part 15)");
      else if (marker == 0xFF52) ok = cod(p, n);
      else if (marker == 0xFF53) ok = coc(p, n);
      else if (marker == 0xFF5C) ok = quant(p, n, qcd_);
      else if (marker == 0xFF5D)
        ok = n >= 2 && u1(p) < uint32_t(s_->fields.components) && quant(p + 1, n - 1, qcc_[u1(p)]);
      else if (marker == 0xFF5F) ok = poc(p, n, s_->volumes);
      else if (marker == 0xFF5E) return fail("a region of interest (RGN)");
      else if (marker == 0xFF60) return fail("packed packet headers (PPM)");
      else if (marker != 0xFF55 && marker != 0xFF57 && marker != 0xFF63 && marker != 0xFF64 && marker != 0xFF59)
        return fail("a marker of another part of the standard");
      if (!ok) return fail("a damaged marker segment in the main header");
      at += 2 + length;
    }
    first_part_ = at;
    if (!siz_seen || !cod_.set || !qcd_.set) return fail("SIZ, COD or QCD is missing");
    return settle();
  }

  bool siz(size_t p, size_t n) {
    if (n < 36) return false;
    const uint32_t components = u2(p + 34);
    if (n != 36 + 3 * size_t(components)) return false;
    J2kFields& f = s_->fields;
    if (u2(p) & 0x4000) return fail("high throughput blocks (Part 15)");
    if (u2(p) & 0x8000) return fail("extensions of Part 2");
    const uint32_t x1 = u4(p + 2), y1 = u4(p + 6), x0 = u4(p + 10), y0 = u4(p + 14);
    uint32_t tw = u4(p + 18), th = u4(p + 22);
    const uint32_t tx = u4(p + 26), ty = u4(p + 30);
    const uint32_t most = 0x7FFFFFFF;
    if (x1 > most || y1 > most || x0 >= x1 || y0 >= y1 || tx > x0 || ty > y0 || !tw || !th) return false;
    tw = std::min(tw, most), th = std::min(th, most);
    if (uint64_t(tx) + tw <= x0 || uint64_t(ty) + th <= y0) return false;
    f.top = int(y0), f.left = int(x0), f.bottom = int(y1), f.right = int(x1);
    f.tile_top = int(ty), f.tile_left = int(tx), f.tile_h = int(th), f.tile_w = int(tw);
    if (int64_t(f.height()) * f.width() > kJ2kMaxPixels) return fail("more pixels than the codec takes");
    if (int64_t(f.tile_rows()) * f.tile_cols() > kJ2kMaxTiles) return fail("more tiles than the standard allows");
    if (components != 1 && components != 3) return fail("neither one nor three components");
    f.components = int(components);
    for (int c = 0; c < f.components; ++c) {
      const uint32_t depth = u1(p + 36 + 3 * c), h = u1(p + 37 + 3 * c), v = u1(p + 38 + 3 * c);
      if (depth != 7) return fail("samples that do not have 8 unsigned bits");
      if ((h != 1 && h != 2 && h != 4) || (v != 1 && v != 2 && v != 4)) return fail("unusual sampling of a component");
      if (!c && (h != 1 || v != 1)) return fail("a first component with less than all samples");
      f.comp[c].sv = int(v), f.comp[c].sh = int(h);
    }
    return true;
  }

  // What COD and COC share; `custom`: precincts are given.
  bool coding(size_t p, size_t n, bool custom, Coding& c) {
    if (n < 5) return false;
    c.set = true;
    c.levels = int(u1(p)), c.xcb = int(u1(p + 1)) + 2, c.ycb = int(u1(p + 2)) + 2;
    c.style = int(u1(p + 3)), c.wavelet = int(u1(p + 4));
    if (c.style & 0x40) return fail("high throughput blocks (Part 15)");
    if (c.levels > kJ2kMaxLevels || c.xcb > 10 || c.ycb > 10 || c.xcb + c.ycb > 12 || c.style > 63 || c.wavelet > 1)
      return false;
    if (n != 5 + (custom ? size_t(c.levels) + 1 : 0)) return false;
    for (int r = 0; r <= c.levels; ++r) {
      c.precincts[r] = custom ? uint8_t(u1(p + 5 + size_t(r))) : 0xFF;
      if (r && (!(c.precincts[r] & 15) || !(c.precincts[r] >> 4))) return false;
    }
    return true;
  }
  bool cod(size_t p, size_t n) {
    if (n < 10) return false;
    cod_at_ = p, cod_length_ = n;
    const uint32_t flags = u1(p);
    if (flags > 7) return false;
    s_->sop = flags >> 1 & 1, s_->eph = flags >> 2 & 1;
    order_ = int(u1(p + 1)), s_->layers = int(u2(p + 2)), s_->fields.transform = int(u1(p + 4));
    if (order_ > 4 || s_->layers < 1 || s_->fields.transform > 1) return false;
    return coding(p + 5, n - 5, flags & 1, cod_);
  }
  bool coc(size_t p, size_t n) {
    if (n < 7 || u1(p) >= uint32_t(s_->fields.components) || u1(p + 1) > 1) return false;
    return coding(p + 2, n - 2, u1(p + 1) & 1, coc_[u1(p)]);
  }
  bool quant(size_t p, size_t n, Quant& q) {
    if (n < 2) return false;
    q.set = true, q.style = int(u1(p) & 31), q.guard = int(u1(p) >> 5);
    if (q.style > 2) return false;
    const size_t width = q.style ? 2 : 1;
    if ((n - 1) % width) return false;
    q.count = int(std::min<size_t>((n - 1) / width, 3 * kJ2kMaxLevels + 1));
    if (q.style == 1 && q.count != 1) return false;
    for (int i = 0; i < q.count; ++i) {
      const uint32_t v = q.style ? u2(p + 1 + 2 * size_t(i)) : u1(p + 1 + size_t(i)) << 8;
      q.exponent[i] = uint8_t(v >> 11), q.mantissa[i] = uint16_t(v & 2047);
    }
    return true;
  }
  bool poc(size_t p, size_t n, std::vector<J2kVolume>& volumes) {
    if (!n || n % 7 || volumes.size() + n / 7 > kJ2kMaxVolumes) return false;
    for (size_t i = 0; i < n; i += 7) {
      J2kVolume v;
      v.first_resolution = int(u1(p + i)), v.first_component = int(u1(p + i + 1));
      v.end_layer = int(u2(p + i + 2)), v.end_resolution = int(u1(p + i + 4)), v.end_component = int(u1(p + i + 5));
      v.order = int(u1(p + i + 6));
      if (!v.end_component) v.end_component = 256;
      if (v.order > 4) return false;
      volumes.push_back(v);
    }
    return true;
  }

  // Fields of the components from COD, COC, QCD, QCC; checks of what they say together.
  bool settle() {
    J2kFields& f = s_->fields;
    int64_t blocks = 0, precincts = 0;
    const int tiles = f.tile_rows() * f.tile_cols();
    if (s_->volumes.empty()) {
      J2kVolume all;
      all.order = order_;
      s_->volumes.push_back(all);
    }
    for (int k = 0; k < f.components; ++k) {
      J2kComponent& c = f.comp[k];
      const Coding& d = coc_[k].set ? coc_[k] : cod_;
      const Quant& q = qcc_[k].set ? qcc_[k] : qcd_;
      c.levels = d.levels, c.reversible = d.wavelet, c.guard = q.guard;
      c.causal = d.style & kJ2kCausal ? 1 : 0;
      s_->style[k] = d.style;
      if (c.reversible && q.style) return fail("quantisation steps with the reversible wavelet");
      const int bands = 3 * c.levels + 1;
      if (q.style != 1 && q.count < bands) return fail("a quantiser with too few steps");
      for (int b = 0; b < bands; ++b) {
        const int up = q.style == 1 && b ? (b - 1) / 3 : 0;  // one exponent less for each resolution upwards
        if (q.style == 1 && q.exponent[0] < up) return fail("a quantiser with negative exponents");
        c.exponent[b] = uint8_t(q.style == 1 ? q.exponent[0] - up : q.exponent[b]);
        c.mantissa[b] = q.mantissa[q.style == 1 ? 0 : b];
        if (c.reversible && c.mantissa[b]) return fail("quantisation steps with the reversible wavelet");
      }
      for (int r = 0; r <= c.levels; ++r) {
        const int h = d.precincts[r] >> 4, w = d.precincts[r] & 15;
        s_->precinct_h[k][r] = uint8_t(h), s_->precinct_w[k][r] = uint8_t(w);
        c.block_h[r] = uint8_t(std::min(d.ycb, h - (r > 0))), c.block_w[r] = uint8_t(std::min(d.xcb, w - (r > 0)));
        const int64_t rows = ceil_shift(f.height() / c.sv + 1, c.levels - r);
        const int64_t cols = ceil_shift(f.width() / c.sh + 1, c.levels - r);
        precincts += ((rows >> h) + 2 * f.tile_rows()) * ((cols >> w) + 2 * f.tile_cols());
        blocks += (r ? 3 : 1) * ((rows >> (c.block_h[r] + (r > 0))) + 2 * f.tile_rows()) *
                  ((cols >> (c.block_w[r] + (r > 0))) + 2 * f.tile_cols());
        if (blocks > kJ2kMaxBlocks) return fail("more code blocks than the codec takes");
        if (precincts > kJ2kMaxPrecincts + 4 * int64_t(tiles) || precincts * s_->layers > kJ2kMaxPackets + 4 * tiles)
          return fail("more packets than the codec takes");
      }
    }
    if (f.band_count() > kJ2kMaxBands) return fail("more bands than the codec takes");
    if (f.transform) {
      if (f.components != 3) return fail("a component transform without three components");
      for (int k = 1; k < 3; ++k)
        if (f.comp[k].sv != f.comp[0].sv || f.comp[k].sh != f.comp[0].sh ||
            f.comp[k].reversible != f.comp[0].reversible)
          return fail("a component transform over components of different kinds");
    }
    return true;
  }

  bool tile_parts(size_t end) {
    size_t at = first_part_;
    const int tiles = s_->fields.tile_rows() * s_->fields.tile_cols();
    std::vector<uint8_t> parts(size_t(tiles), 0);
    for (;;) {
      if (end - at < 2) break;  // EOC is missing: what follows decides
      const uint32_t marker = u2(at);
      if (marker == 0xFFD9) {
        s_->end = at + 2;
        for (int t = 0; t < tiles; ++t)
          if (!parts[size_t(t)]) return fail("a tile is missing");
        return true;
      }
      if (marker != 0xFF90) return fail("a tile part does not begin with SOT");
      if (end - at < 12 || u2(at + 2) != 10) return fail("a damaged SOT marker");
      J2kPart part;
      part.sot = at, part.tile = int(u2(at + 4));
      const uint32_t length = u4(at + 6), number = u1(at + 10);
      if (part.tile >= tiles) return fail("a tile that is not in the image");
      if (number != parts[size_t(part.tile)]) return fail("a tile part is missing");
      if (number == 255) return fail("too many tile parts");
      parts[size_t(part.tile)] = uint8_t(number + 1);
      part.end = length ? at + length : end - 2;  // 0: up to EOC
      if ((length && (length < 14 || length > end - at)) || part.end < at + 14) return fail("a tile part is cut short");
      if (!part_header(part)) return false;
      s_->parts.push_back(part);
      at = part.end;
    }
    return fail("the codestream is cut short");
  }

  // Markers from behind SOT to SOD.
  bool part_header(J2kPart& part) {
    size_t p = part.sot + 12;
    for (;;) {
      if (part.end - p < 2) return fail("a tile part's header is cut short");
      const uint32_t m = u2(p);
      if (m == 0xFF93) break;
      if (part.end - p < 4) return fail("a tile part's header is cut short");
      const size_t n = u2(p + 2);
      if (n < 2 || n > part.end - p - 2) return fail("a tile part's header is cut short");
      if (m == 0xFF5F) {
        if (!poc(p + 4, n - 2, s_->tile_volumes[part.tile])) return fail("a damaged marker segment of a tile");
      } else if (m == 0xFF52 || m == 0xFF53 || m == 0xFF5C || m == 0xFF5D) {
        if (!repeated(m, p + 4, n - 2)) return fail("a tile with coding parameters of its own");
      } else if (m == 0xFF5E) {
        return fail("a region of interest (RGN)");
      } else if (m == 0xFF61) {
        return fail("packed packet headers (PPT)");
      } else if (m != 0xFF58 && m != 0xFF64) {  // PLT, COM
        return fail("an unknown marker in a tile part's header");
      }
      p += 2 + n;
    }
    part.body = p + 2;
    return true;
  }

  const uint8_t* data_ = nullptr;
  size_t size_ = 0, first_part_ = 0;
  J2kStream* s_ = nullptr;
  int order_ = 0;
  size_t cod_at_ = 0, cod_length_ = 0;
  Coding cod_, coc_[3];
  Quant qcd_, qcc_[3];
};

}  // namespace dlpr
