// A JPEG 2000 codestream to its coefficients.
#pragma once
#include "j2k/tier2.hpp"
#include <memory>

namespace dlpr {

// Coefficients and passes of all bands, owned.
struct J2kImage {
  std::vector<J2kBand> bands;
  std::vector<std::unique_ptr<int32_t[]>> q;
  std::vector<std::unique_ptr<uint8_t[]>> passes, missing;

  void allot(const J2kFields& f) {
    bands = j2k_bands(f);
    q.clear(), passes.clear(), missing.clear();
    for (const J2kBand& b : bands) {
      q.emplace_back(new int32_t[b.blocks() ? b.size() : 1]());
      passes.emplace_back(new uint8_t[std::max<size_t>(b.blocks(), 1)]());
      missing.emplace_back(new uint8_t[std::max<size_t>(b.blocks(), 1)]());
    }
  }
};

// All passes of a block out of its pieces. `scratch` holds the codeword of one segment.
inline void j2k_decode_block(Tier1& t1, const J2kBand& band, int style, const J2kBlock& block,
                             const std::vector<J2kPiece>& pieces, const uint8_t* data, std::vector<uint8_t>& scratch) {
  int p = band.planes - block.missing - 1, type = 2, done = 0;
  const int planes = p + 1;
  MqDecoder mq;
  RawDecoder raw;
  int32_t piece = block.first;
  while (done < block.passes) {
    const int most = tier1_segment_passes(style, done);
    scratch.clear();
    int count = 0;
    while (piece >= 0 && count < most) {
      const J2kPiece& now = pieces[size_t(piece)];
      scratch.insert(scratch.end(), data + now.offset, data + now.offset + now.length);
      count += now.passes;
      piece = now.next;
    }
    scratch.push_back(0xFF), scratch.push_back(0xFF);
    const bool is_raw = tier1_raw(style, planes, type, p);
    if (is_raw) raw.start(scratch.data());
    else mq.start(scratch.data());
    for (int i = 0; i < count; ++i, ++done) {
      if (is_raw) t1.pass(raw, type, p, true);
      else t1.pass(mq, type, p, false);
      if (style & kJ2kReset) t1.reset_contexts();
      if (++type == 3) type = 0, --p;
    }
  }
}

// Values of a block to its place in the band.
inline void j2k_place_block(const Tier1& t1, const J2kBand& band, int top, int left, int bottom, int right,
                            int32_t* q) {
  const int w = right - left;
  const uint32_t* v = t1.value.data();
  for (int y = top; y < bottom; y += 4, v += size_t(w) * 4) {
    const int n = std::min(4, bottom - y);
    for (int r = 0; r < n; ++r) {
      int32_t* out = q + size_t(y + r) * band.cols() + left;
      for (int x = 0; x < w; ++x) {
        const int32_t m = int32_t(v[4 * x + r] & 0x7FFFFFFF);
        out[x] = v[4 * x + r] >> 31 ? -m : m;
      }
    }
  }
}

// Empty string: good.
inline std::string j2k_decode(const uint8_t* data, size_t size, J2kStream& s, J2kImage& image) {
  J2kParser parser;
  if (!parser.read(data, size, s)) return parser.error;
  const J2kFields& f = s.fields;
  if (int64_t(f.height()) * f.width() * f.components > (int64_t(1) << 22) + (int64_t(1) << 14) * int64_t(size))
    return "far more pixels than its bytes can hold";
  image.bands = j2k_bands(f);
  const int tiles = f.tile_rows() * f.tile_cols(), each = j2k_tile_bands(f);
  const std::vector<std::vector<size_t>> parts = s.parts_by_tile();
  bool ready = false;
  Tier1 t1;
  std::vector<uint8_t> scratch;
  for (int t = 0; t < tiles; ++t) {
    J2kTile tile(s, image.bands.data() + size_t(t) * each, t);
    J2kPacketReader reader;
    if (!reader.read(s, tile, t, parts[size_t(t)], data, false)) return reader.error;
    if (!ready) image.allot(f), ready = true;  // the first packets are good
    for (int b = 0; b < each; ++b) {
      const size_t at = size_t(t) * each + b;
      const J2kBand& band = image.bands[at];
      for (int row = 0, n = 0; row < band.grid_rows; ++row)
        for (int col = 0; col < band.grid_cols; ++col, ++n) {
          const J2kBlock& block = tile.blocks[tile.first_block[size_t(b)] + n];
          if (!block.passes) continue;
          int top, left, bottom, right;
          band.block(row, col, &top, &left, &bottom, &right);
          const int style = s.style[band.component];
          t1.open(bottom - top, right - left, band.orientation, style);
          j2k_decode_block(t1, band, style, block, reader.pieces, data, scratch);
          j2k_place_block(t1, band, top, left, bottom, right, image.q[at].get());
          image.passes[at][n] = block.passes, image.missing[at][n] = block.missing;
        }
    }
  }
  return "";
}

}  // namespace dlpr
