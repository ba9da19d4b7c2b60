// Packets (Part 1, Annex B): precincts, the order of packets, packet headers, and the pieces of codeword they carry.
// One walk over the packets serves reading and writing.
#pragma once
#include "j2k/stream.hpp"
#include "j2k/tags.hpp"
#include <cmath>

namespace dlpr {

// What a packet holds of a code block, up to the end of a terminated segment.
struct J2kPiece {
  size_t offset = 0;
  uint32_t length = 0;
  int32_t next = -1;  // of the same block
  uint16_t layer = 0;
  uint8_t passes = 0;
};

struct J2kBlock {
  int32_t first = -1, last = -1;  // pieces
  uint8_t missing = 0, length_bits = 3;
  uint8_t passes = 0;          // so far
  uint8_t segment_passes = 0;  // of the open segment
  bool included = false;
};

struct J2kPrecinct {
  int component, resolution;
  int64_t y, x;  // on the reference grid, where a position's order meets it
  int row, col;
  int next_layer = 0;
  struct Part {  // its blocks of one band
    int band = -1, row = 0, col = 0, rows = 0, cols = 0;
    size_t inclusion = 0, planes = 0, end = 0;  // nodes of its tag trees
  } parts[3];
};

// Precincts and blocks of one tile.
class J2kTile {
 public:
  std::vector<J2kPrecinct> precincts;
  std::vector<TagNode> nodes;
  std::vector<size_t> first_block;  // of each band of the tile, then the end
  std::vector<J2kBlock> blocks;

  J2kTile(const J2kStream& s, const J2kBand* bands, int tile) : s_(s), bands_(bands) {
    const J2kFields& f = s.fields;
    const int n = j2k_tile_bands(f);
    first_block.push_back(0);
    for (int b = 0; b < n; ++b) first_block.push_back(first_block.back() + bands[b].blocks());
    blocks.resize(first_block.back());
    const J2kRect t = j2k_tile(f, tile);
    for (int k = 0; k < f.components; ++k)
      for (int r = 0; r <= f.comp[k].levels; ++r) add(t, k, r);
  }

  const J2kBand& band(int number) const { return bands_[number]; }

  // visit(precinct, layer) for the packets in order; it says whether to go on. False: it did not.
  template <class Visit>
  bool walk(const std::vector<J2kVolume>& volumes, Visit&& visit) {
    std::vector<J2kPrecinct*> mine;
    for (const J2kVolume& v : volumes) {
      const int layers = std::min(v.end_layer, s_.layers);
      mine.clear();
      for (J2kPrecinct& p : precincts)
        if (p.resolution >= v.first_resolution && p.resolution < v.end_resolution && p.component >= v.first_component &&
            p.component < v.end_component && p.next_layer < layers)
          mine.push_back(&p);
      const int order = v.order;
      std::stable_sort(mine.begin(), mine.end(), [order](const J2kPrecinct* a, const J2kPrecinct* b) {
        const int64_t ka[5][4] = {{a->resolution, a->component, 0, 0},
                                  {a->resolution, a->component, 0, 0},
                                  {a->resolution, a->y, a->x, a->component},
                                  {a->y, a->x, a->component, a->resolution},
                                  {a->component, a->y, a->x, a->resolution}};
        const int64_t kb[5][4] = {{b->resolution, b->component, 0, 0},
                                  {b->resolution, b->component, 0, 0},
                                  {b->resolution, b->y, b->x, b->component},
                                  {b->y, b->x, b->component, b->resolution},
                                  {b->component, b->y, b->x, b->resolution}};
        return std::lexicographical_compare(ka[order], ka[order] + 4, kb[order], kb[order] + 4);
      });
      auto one = [&](J2kPrecinct* p, int layer) {
        if (layer != p->next_layer) return true;  // in an earlier volume
        ++p->next_layer;
        return bool(visit(*p, layer));
      };
      if (order == 0) {
        for (int l = 0; l < layers; ++l)
          for (J2kPrecinct* p : mine)
            if (!one(p, l)) return false;
      } else if (order == 1) {
        for (size_t i = 0, j = 0; i < mine.size(); i = j) {
          while (j < mine.size() && mine[j]->resolution == mine[i]->resolution) ++j;
          for (int l = 0; l < layers; ++l)
            for (size_t k = i; k < j; ++k)
              if (!one(mine[k], l)) return false;
        }
      } else {
        for (J2kPrecinct* p : mine)
          for (int l = 0; l < layers; ++l)
            if (!one(p, l)) return false;
      }
    }
    return true;
  }

  // The header of a packet, its pieces noted in (a reader) or taken from (a writer) `pieces`; a reader's offsets count
  // from the packet's body. Null: good; else what is wrong. `empty_bit`: what a writer puts first.
  template <class Bits>
  const char* header(Bits& bits, J2kPrecinct& p, int layer, std::vector<J2kPiece>& pieces, int nonempty, size_t* body) {
    *body = 0;
    if (!bits.code(nonempty)) return bits.over ? "a packet header is cut short" : nullptr;
    for (J2kPrecinct::Part& part : p.parts) {
      if (part.band < 0) continue;
      const J2kBand& band = bands_[part.band];
      for (int y = 0; y < part.rows; ++y)
        for (int x = 0; x < part.cols; ++x) {
          const size_t leaf = size_t(y) * part.cols + x;
          const size_t number =
              first_block[size_t(part.band)] + size_t(part.row + y) * band.grid_cols + size_t(part.col + x);
          const char* wrong = block_header(bits, band, part, leaf, blocks[number], layer, pieces, body);
          if (wrong) return wrong;
          if (bits.over) return "a packet header is cut short";
        }
    }
    return nullptr;
  }

 private:
  void add(const J2kRect& tile, int k, int r) {
    const J2kFields& f = s_.fields;
    const J2kComponent& c = f.comp[k];
    const J2kRect res = j2k_resolution(f, tile, k, r);
    if (res.empty()) return;
    const int ph = s_.precinct_h[k][r], pw = s_.precinct_w[k][r], down = c.levels - r;
    const int64_t row0 = res.y0 >> ph, row1 = ceil_shift(res.y1, ph), col0 = res.x0 >> pw,
                  col1 = ceil_shift(res.x1, pw);
    const int first = j2k_first_band(f, k, r), count = r ? 3 : 1;
    for (int64_t row = row0; row < row1; ++row)
      for (int64_t col = col0; col < col1; ++col) {
        J2kPrecinct p;
        p.component = k, p.resolution = r;
        p.row = int(row - row0), p.col = int(col - col0);
        auto place = [&](int64_t n, int size, int start, int tile_start, int step) -> int64_t {
          if ((n << size) < start) return tile_start;  // it begins before the tile
          return down > 31 ? (n ? INT64_MAX / 2 : 0) : ((n << size) << down) * step;
        };
        p.y = place(row, ph, res.y0, tile.y0, c.sv), p.x = place(col, pw, res.x0, tile.x0, c.sh);
        for (int i = 0; i < count; ++i) {
          const J2kBand& b = bands_[first + i];
          if (!b.blocks()) continue;
          const int sh = ph - (r > 0), sw = pw - (r > 0);
          const int64_t y0 = std::max<int64_t>(row << sh, b.y0), y1 = std::min<int64_t>((row + 1) << sh, b.y1);
          const int64_t x0 = std::max<int64_t>(col << sw, b.x0), x1 = std::min<int64_t>((col + 1) << sw, b.x1);
          if (y0 >= y1 || x0 >= x1) continue;
          J2kPrecinct::Part& part = p.parts[i];
          part.band = first + i;
          part.row = int(y0 >> b.block_h) - (b.y0 >> b.block_h), part.col = int(x0 >> b.block_w) - (b.x0 >> b.block_w);
          part.rows = int((y1 - 1) >> b.block_h) - int(y0 >> b.block_h) + 1;
          part.cols = int((x1 - 1) >> b.block_w) - int(x0 >> b.block_w) + 1;
          part.inclusion = nodes.size();
          tag_tree_add(nodes, part.rows, part.cols);
          part.planes = nodes.size();
          tag_tree_add(nodes, part.rows, part.cols);
          part.end = nodes.size();
        }
        precincts.push_back(p);
      }
  }

  template <class Bits>
  const char* block_header(Bits& bits, const J2kBand& band, const J2kPrecinct::Part& part, size_t leaf, J2kBlock& b,
                           int layer, std::vector<J2kPiece>& pieces, size_t* body) {
    int32_t now = -1;  // a writer's first piece of this layer
    uint32_t count = 0;
    if (!Bits::kReads) {
      now = b.last < 0 ? b.first : pieces[size_t(b.last)].next;
      if (now >= 0 && pieces[size_t(now)].layer != layer) now = -1;
      for (int32_t i = now; i >= 0 && pieces[size_t(i)].layer == layer; i = pieces[size_t(i)].next)
        count += pieces[size_t(i)].passes;
    }
    if (b.included) {
      if (!bits.code(now >= 0)) return nullptr;
    } else {
      if (!tag_tree_below(bits, nodes, part.inclusion + leaf, uint16_t(layer + 1))) return nullptr;
      uint16_t above = 1;
      while (!tag_tree_below(bits, nodes, part.planes + leaf, above))
        if (++above > 80 || bits.over) return "more missing bit planes than a block has";
      b.missing = uint8_t(above - 1), b.included = true;
    }
    count = passes(bits, count);
    if (b.passes + count > 3 * kJ2kMaxPlanes - 2 || int(b.missing) >= band.planes ||
        b.passes + count > uint32_t(3 * (band.planes - b.missing) - 2))
      return "more coding passes than a block has";
    if (band.planes - b.missing > kJ2kMaxPlanes) return "more bit planes than the codec takes";
    const int style = s_.style[band.component];
    // lengths of the segments that the passes end or begin
    int more = 0;
    if (!Bits::kReads)
      for (int32_t i = now; i >= 0 && pieces[size_t(i)].layer == layer; i = pieces[size_t(i)].next) {
        const J2kPiece& piece = pieces[size_t(i)];
        int need = 0;
        while (piece.length >> need) ++need;
        more = std::max(more, need - log2_of(piece.passes) - b.length_bits);
      }
    while (bits.code(more-- > 0))
      if (++b.length_bits > 32) return "a length of more than 32 bits";
    while (count) {
      const int room = tier1_segment_passes(style, b.passes - b.segment_passes) - b.segment_passes;
      const uint32_t take = std::min(count, uint32_t(room));
      const int width = b.length_bits + log2_of(take);
      if (width > 32) return "a length of more than 32 bits";
      const uint32_t length = header_number(bits, width, Bits::kReads ? 0 : pieces[size_t(now)].length);
      if (Bits::kReads) {
        J2kPiece piece;
        piece.offset = *body, piece.length = length, piece.layer = uint16_t(layer), piece.passes = uint8_t(take);
        const int32_t at = int32_t(pieces.size());
        pieces.push_back(piece);
        (b.last < 0 ? b.first : pieces[size_t(b.last)].next) = at;
        b.last = at;
      } else {
        b.last = now, now = pieces[size_t(now)].next;
      }
      *body += length;
      b.passes = uint8_t(b.passes + take), b.segment_passes = uint8_t(b.segment_passes + take), count -= take;
      if (int(take) == room) b.segment_passes = 0;
    }
    return nullptr;
  }

  static int log2_of(uint32_t v) {
    int n = 0;
    while (v >>= 1) ++n;
    return n;
  }

  // The code of a number of passes (table B-4).
  template <class Bits>
  static uint32_t passes(Bits& bits, uint32_t n) {
    if (!bits.code(n > 1)) return 1;
    if (!bits.code(n > 2)) return 2;
    uint32_t v = header_number(bits, 2, n < 6 ? n - 3 : 3);
    if (v < 3) return 3 + v;
    v = header_number(bits, 5, n < 37 ? n - 6 : 31);
    if (v < 31) return 6 + v;
    return 37 + header_number(bits, 7, n - 37);
  }

  const J2kStream& s_;
  const J2kBand* bands_;
};

// A packet as it lies in the bytes.
struct J2kPacket {
  size_t begin = 0;       // with its SOP
  size_t header_end = 0;  // with its EPH
  size_t end = 0;
};

// Reads the packets of one tile. Pieces' offsets then count from `data`.
class J2kPacketReader {
 public:
  std::vector<J2kPacket> packets;    // where asked for
  std::vector<size_t> part_packets;  // after each tile part of the tile: packets so far
  std::vector<J2kPiece> pieces;
  const char* error = nullptr;

  // `numbers`: the parts of the tile. `note`: packets are asked for.
  bool read(const J2kStream& s, J2kTile& t, int tile, const std::vector<size_t>& numbers, const uint8_t* data,
            bool note) {
    std::vector<const J2kPart*> parts;
    for (size_t i : numbers) parts.push_back(&s.parts[i]);
    size_t part = 0, at = parts.empty() ? 0 : parts[0]->body;
    if (parts.empty()) return fail("a tile is missing");
    size_t count = 0;
    const bool done = t.walk(s.volumes_of(tile), [&](J2kPrecinct& p, int layer) {
      while (at == parts[part]->end && part + 1 < parts.size()) {
        part_packets.push_back(count);
        at = parts[++part]->body;
      }
      const size_t end = parts[part]->end;
      if (at == end) return false;  // the last packets may be left out
      J2kPacket packet;
      packet.begin = at;
      if (end - at >= 6 && data[at] == 0xFF && data[at + 1] == 0x91) at += 6;  // SOP
      HeaderReader bits(data + at, data + end);
      const size_t first = pieces.size();
      size_t body = 0;
      if (const char* wrong = t.header(bits, p, layer, pieces, 0, &body)) return fail(wrong);
      bits.align();
      if (bits.over) return fail("a packet header is cut short");
      at = size_t(bits.p - data);
      if (s.eph) {
        if (end - at < 2 || data[at] != 0xFF || data[at + 1] != 0x92) return fail("EPH is missing");
        at += 2;
      }
      packet.header_end = at;
      for (size_t i = first; i < pieces.size(); ++i) {
        pieces[i].offset += at;
        if (pieces[i].length > end - at) return fail("a packet is cut short");
      }
      if (body > end - at) return fail("a packet is cut short");
      at += body;
      packet.end = at, ++count;
      if (note) packets.push_back(packet);
      return true;
    });
    if (!done && error) return false;
    while (part_packets.size() < parts.size()) part_packets.push_back(count);
    while (at == parts[part]->end && part + 1 < parts.size()) at = parts[++part]->body;
    if (part + 1 < parts.size()) return fail("a tile part with bytes after the last packet");
    rest_begin = at, rest_end = parts[part]->end;
    return true;
  }

  size_t rest_begin = 0, rest_end = 0;  // bytes after the last packet

 private:
  bool fail(const char* what) {
    error = what;
    return false;
  }
};

}  // namespace dlpr
