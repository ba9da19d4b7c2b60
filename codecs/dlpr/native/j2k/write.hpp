// A fresh codestream of coefficients and passes: one layer, one tile part for each tile, packets by layer, resolution,
// component, place; each block's passes are one codeword that is flushed. Precincts are as large as the blocks allow.
#pragma once
#include "j2k/rebuild.hpp"

namespace dlpr {

class J2kWriter {
 public:
  std::string error;

  // `bands` are those of the fields, arrays in their order, passes within what a block has. False: see error.
  bool write(const J2kFields& fields, const std::vector<J2kBand>& bands, const int32_t* const* q,
             const uint8_t* const* passes, const uint8_t* const* missing, std::vector<uint8_t>& out) {
    s_.fields = fields;
    const J2kFields& f = s_.fields;
    for (int k = 0; k < f.components; ++k)
      if (!coding(k)) return false;
    J2kVolume all;
    s_.volumes.assign(1, all);
    const int tiles = f.tile_rows() * f.tile_cols();
    s_.parts.resize(size_t(tiles));
    for (int t = 0; t < tiles; ++t) s_.parts[size_t(t)].tile = t;
    PlainBits none;
    J2kDetails<PlainBits> packets(none, s_, nullptr);
    std::vector<std::vector<uint8_t>> parts;
    if (!packets.run(bands, q, passes, missing, parts)) return fail(packets.error.c_str());
    out_ = &out;
    out.clear();
    main_header();
    for (int t = 0; t < tiles; ++t) {
      const std::vector<uint8_t>& body = parts[size_t(t)];
      const uint64_t length = 14 + uint64_t(body.size());
      if (length > 0xFFFFFFFF) return fail("a tile of more than 32 bits of length");
      u2(0xFF90), u2(10), u2(uint32_t(t)), u4(uint32_t(length)), u1(0), u1(1);
      u2(0xFF93);
      out.insert(out.end(), body.begin(), body.end());
    }
    u2(0xFFD9);
    return true;
  }

 private:
  bool fail(const char* what) {
    error = what;
    return false;
  }

  // Size of a component's blocks, and the precincts that cut them at some resolutions.
  bool coding(int k) {
    const J2kComponent& c = s_.fields.comp[k];
    int h = 2, w = 2;
    for (int r = 0; r <= c.levels; ++r) h = std::max<int>(h, c.block_h[r]), w = std::max<int>(w, c.block_w[r]);
    if (h + w > 12) return fail("code blocks whose sizes do not go together");
    height_[k] = h, width_[k] = w, custom_[k] = false;
    for (int r = 0; r <= c.levels; ++r) {
      auto precinct = [&](int block, int whole) { return uint8_t(block == whole ? 15 : block + (r > 0)); };
      s_.precinct_h[k][r] = precinct(c.block_h[r], h), s_.precinct_w[k][r] = precinct(c.block_w[r], w);
      custom_[k] = custom_[k] || s_.precinct_h[k][r] < 15 || s_.precinct_w[k][r] < 15;
    }
    s_.style[k] = c.causal ? kJ2kCausal : 0;
    return true;
  }

  void main_header() {
    const J2kFields& f = s_.fields;
    u2(0xFF4F), u2(0xFF51), u2(38 + 3 * uint32_t(f.components)), u2(0);
    for (int v : {f.right, f.bottom, f.left, f.top, f.tile_w, f.tile_h, f.tile_left, f.tile_top}) u4(uint32_t(v));
    u2(uint32_t(f.components));
    for (int k = 0; k < f.components; ++k) u1(7), u1(uint32_t(f.comp[k].sh)), u1(uint32_t(f.comp[k].sv));
    u2(0xFF52), u2(12 + precinct_bytes(0)), u1(custom_[0]), u1(0), u2(1), u1(uint32_t(f.transform));
    component(0);
    u2(0xFF5C), u2(3 + step_bytes(0)), steps(0);
    for (int k = 1; k < f.components; ++k) {
      if (!same_coding(k)) u2(0xFF53), u2(9 + precinct_bytes(k)), u1(uint32_t(k)), u1(custom_[k]), component(k);
      if (!same_steps(k)) u2(0xFF5D), u2(4 + step_bytes(k)), u1(uint32_t(k)), steps(k);
    }
  }

  uint32_t precinct_bytes(int k) const { return custom_[k] ? uint32_t(s_.fields.comp[k].levels) + 1 : 0; }
  uint32_t step_bytes(int k) const {
    const J2kComponent& c = s_.fields.comp[k];
    return uint32_t(3 * c.levels + 1) * (c.reversible ? 1 : 2);
  }
  // What COD and COC share.
  void component(int k) {
    const J2kComponent& c = s_.fields.comp[k];
    u1(uint32_t(c.levels)), u1(uint32_t(width_[k] - 2)), u1(uint32_t(height_[k] - 2));
    u1(uint32_t(s_.style[k])), u1(uint32_t(c.reversible));
    for (int r = 0; custom_[k] && r <= c.levels; ++r) u1(uint32_t(s_.precinct_h[k][r] << 4 | s_.precinct_w[k][r]));
  }
  // What QCD and QCC share.
  void steps(int k) {
    const J2kComponent& c = s_.fields.comp[k];
    u1(uint32_t(c.guard << 5 | (c.reversible ? 0 : 2)));
    for (int b = 0; b <= 3 * c.levels; ++b) {
      if (c.reversible) u1(uint32_t(c.exponent[b] << 3));
      else u2(uint32_t(c.exponent[b] << 11 | c.mantissa[b]));
    }
  }
  bool same_coding(int k) const {
    const J2kComponent &a = s_.fields.comp[0], &b = s_.fields.comp[k];
    return a.levels == b.levels && a.reversible == b.reversible && s_.style[0] == s_.style[k] &&
           height_[0] == height_[k] && width_[0] == width_[k] &&
           std::equal(s_.precinct_h[0], s_.precinct_h[0] + a.levels + 1, s_.precinct_h[k]) &&
           std::equal(s_.precinct_w[0], s_.precinct_w[0] + a.levels + 1, s_.precinct_w[k]);
  }
  bool same_steps(int k) const {
    const J2kComponent &a = s_.fields.comp[0], &b = s_.fields.comp[k];
    const int n = 3 * a.levels + 1;
    return a.levels == b.levels && a.reversible == b.reversible && a.guard == b.guard &&
           std::equal(a.exponent, a.exponent + n, b.exponent) && std::equal(a.mantissa, a.mantissa + n, b.mantissa);
  }

  void u1(uint32_t v) { out_->push_back(uint8_t(v)); }
  void u2(uint32_t v) { u1(v >> 8 & 255), u1(v & 255); }
  void u4(uint32_t v) { u2(v >> 16), u2(v & 0xFFFF); }

  J2kStream s_;
  int height_[3] = {}, width_[3] = {};  // exponents of the blocks' nominal size
  bool custom_[3] = {};                 // precincts are given
  std::vector<uint8_t>* out_ = nullptr;
};

}  // namespace dlpr
