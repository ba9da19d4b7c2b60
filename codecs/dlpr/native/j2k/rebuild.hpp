// A codestream again, byte for byte, from its coefficients and a structure: the bytes that are no packets (template),
// and what packets hold that does not follow from coefficients and passes (details). The same code makes the details
// and reads them.
#pragma once
#include "j2k/decode.hpp"
#include "j2k/segments.hpp"

namespace dlpr {

template <class Bits>
class J2kDetails {
 public:
  static constexpr bool kReads = Bits::kDecodes;
  std::string error;

  // `data` is the whole file for a maker, nothing for a reader; bodies of tile parts go to `parts`.
  J2kDetails(Bits& bits, const J2kStream& s, const uint8_t* data)
      : numbers_(bits), s_(s), data_(data), segment_(numbers_) {}

  // Where the codestream begins in the template, and how many tile parts it has.
  void head(const J2kStream& s) {
    numbers_.number(kHead, uint32_t(s.begin));
    numbers_.number(kHead, uint32_t(s.parts.size()));
  }
  void head(size_t* begin, size_t* parts) {
    *begin = numbers_.number(kHead, 0);
    *parts = numbers_.number(kHead, 0);
  }

  // All tiles. `q`, `passes`, `missing` in the order of `bands`; parts[i] gets the bytes behind SOD of s.parts[i].
  bool run(const std::vector<J2kBand>& bands, const int32_t* const* q, const uint8_t* const* passes,
           const uint8_t* const* missing, std::vector<std::vector<uint8_t>>& parts) {
    const J2kFields& f = s_.fields;
    const int tiles = f.tile_rows() * f.tile_cols(), each = j2k_tile_bands(f);
    parts.assign(s_.parts.size(), std::vector<uint8_t>());
    by_tile_ = s_.parts_by_tile();
    for (int t = 0; t < tiles; ++t) {
      const size_t at = size_t(t) * each;
      if (!tile(t, bands.data() + at, q + at, passes + at, missing + at, each, parts)) return false;
    }
    return true;
  }

 private:
  bool fail(const char* what) {
    if (error.empty()) error = what;
    return false;
  }

  bool tile(int number, const J2kBand* bands, const int32_t* const* q, const uint8_t* const* passes,
            const uint8_t* const* missing, int each, std::vector<std::vector<uint8_t>>& parts) {
    std::unique_ptr<J2kTile> source;
    J2kPacketReader reader;
    if (!kReads) {
      source.reset(new J2kTile(s_, bands, number));
      if (!reader.read(s_, *source, number, by_tile_[size_t(number)], data_, true)) return fail(reader.error);
    }
    J2kTile tile(s_, bands, number);
    pieces_.clear(), bytes_.clear();
    for (int b = 0; b < each; ++b)
      for (size_t n = 0; n < bands[b].blocks(); ++n) {
        if (!passes[b][n]) continue;
        J2kBlock& block = tile.blocks[tile.first_block[size_t(b)] + n];
        const J2kBlock* from = kReads ? nullptr : &source->blocks[tile.first_block[size_t(b)] + n];
        if (!block_pieces(bands[b], n, q[b], passes[b][n], missing[b][n], block, from, reader.pieces)) return false;
      }
    for (const J2kPrecinct& p : tile.precincts)
      for (const J2kPrecinct::Part& part : p.parts)
        if (part.band >= 0) plant(tile, source.get(), bands[part.band], part, passes[part.band], missing[part.band]);
    return packets(number, tile, reader, parts);
  }

  // Values of the tag trees: first layers and missing bit planes; blocks without passes come last.
  void plant(J2kTile& tile, const J2kTile* source, const J2kBand& band, const J2kPrecinct::Part& part,
             const uint8_t* passes, const uint8_t* missing) {
    for (int y = 0; y < part.rows; ++y)
      for (int x = 0; x < part.cols; ++x) {
        const size_t leaf = size_t(y) * part.cols + x, n = size_t(part.row + y) * band.grid_cols + size_t(part.col + x);
        const J2kBlock& block = tile.blocks[tile.first_block[size_t(part.band)] + n];
        tile.nodes[part.inclusion + leaf].value = passes[n] ? pieces_[size_t(block.first)].layer : 0xFFFF;
        tile.nodes[part.planes + leaf].value = passes[n] ? missing[n] : 0xFFFF;
      }
    tag_tree_close(tile.nodes, part.inclusion, part.planes);
    tag_tree_close(tile.nodes, part.planes, part.end);
    // a block that is left out may have fewer missing planes than its neighbours: inner nodes then tell
    for (size_t i = part.planes + size_t(part.rows) * part.cols; i < part.end; ++i) {
      TagNode& node = tile.nodes[i];
      if (node.value == 0xFFFF) continue;
      const int less = source && source->nodes[i].known ? node.value - source->nodes[i].value : 0;
      node.value = uint16_t(std::max(0, node.value - int(numbers_.number(kTreeValue, uint32_t(less)))));
    }
  }

  // How the passes of a block are dealt out to layers: (layer, passes), in `shares_`.
  bool shares(int total, const J2kBlock* from, const std::vector<J2kPiece>& pieces) {
    shares_.clear();
    if (s_.layers == 1) {
      shares_.emplace_back(0, total);
      return true;
    }
    std::vector<std::pair<int, int>> real;
    if (!kReads)
      for (int32_t i = from->first; i >= 0; i = pieces[size_t(i)].next) {
        const J2kPiece& p = pieces[size_t(i)];
        if (real.empty() || real.back().first != p.layer) real.emplace_back(p.layer, 0);
        real.back().second += p.passes;
      }
    size_t at = 0;
    int left = total;
    for (int layer = 0; left > 0;) {
      if (layer >= s_.layers) return fail("passes beyond the last layer");
      // layers without passes before the next one with some, then its passes; all of them in the last layer
      const int gap = kReads ? 0 : real[at].first - layer;
      layer += int(numbers_.number(kFirstLayer, uint32_t(gap)));
      if (layer >= s_.layers || numbers_.overrun()) return fail("passes beyond the last layer");
      int take = left;
      if (layer + 1 < s_.layers) {
        take = int(numbers_.number(kLayerPasses, kReads ? 0 : uint32_t(real[at].second - 1))) + 1;
        if (take > left || take < 1) return fail("more passes than a block has");
      }
      shares_.emplace_back(layer, take);
      left -= take, ++layer, ++at;
    }
    return true;
  }

  // Codes the passes of a block again and notes its pieces.
  bool block_pieces(const J2kBand& band, size_t n, const int32_t* q, int total, int missing, J2kBlock& block,
                    const J2kBlock* from, const std::vector<J2kPiece>& source) {
    if (!shares(total, from, source)) return false;
    int top, left, bottom, right;
    band.block(int(n) / band.grid_cols, int(n) % band.grid_cols, &top, &left, &bottom, &right);
    const int style = s_.style[band.component];
    t1_.open(bottom - top, right - left, band.orientation, style);
    for (int y = top; y < bottom; ++y)
      for (int x = left; x < right; ++x) {
        const int32_t v = q[size_t(y) * band.cols() + x];
        const uint32_t m = v < 0 ? (0u - uint32_t(v)) | 1u << 31 : uint32_t(v);
        t1_.value[(size_t((y - top) / 4) * (right - left) + (x - left)) * 4 + size_t(y - top) % 4] = m;
      }
    const int planes = band.planes - missing;
    int p = planes - 1, type = 2, done = 0;
    size_t share = 0;
    int in_share = 0;  // passes of this layer so far
    int32_t piece = from ? from->first : -1;
    while (done < total) {
      const int count = std::min(tier1_segment_passes(style, done), total - done);
      const bool raw = tier1_raw(style, planes, type, p);
      if (raw) segment_.raw.start(&segment_.out);
      else segment_.mq.start(&segment_.out);
      const size_t first_piece = pieces_.size();
      ends_.clear();
      for (int i = 0, since = 0; i < count; ++i, ++done) {
        if (raw) t1_.pass(segment_.raw, type, p, true);
        else t1_.pass(segment_.mq, type, p, false);
        if (style & kJ2kReset) t1_.reset_contexts();
        if (++type == 3) type = 0, --p;
        ++since, ++in_share;
        const bool layer_ends = in_share == shares_[share].second;
        if (layer_ends || i + 1 == count) {
          J2kPiece now;
          now.layer = uint16_t(shares_[share].first), now.passes = uint8_t(since);
          const int32_t at = int32_t(pieces_.size());
          pieces_.push_back(now);
          (block.last < 0 ? block.first : pieces_[size_t(block.last)].next) = at;
          block.last = at;
          ends_.push_back(segment_.out.size() - 1);
          since = 0;
        }
        if (layer_ends) ++share, in_share = 0;
      }
      int32_t original = piece;
      segment_.bytes.clear();
      if (!kReads)
        for (size_t k = first_piece; k < pieces_.size(); ++k) {
          const J2kPiece& now = source[size_t(piece)];
          segment_.bytes.insert(segment_.bytes.end(), data_ + now.offset, data_ + now.offset + now.length);
          piece = now.next;
        }
      if (!segment_.end(raw)) return fail(segment_.error);
      // where layers cut the segment
      size_t at = 0;
      for (size_t k = first_piece; k < pieces_.size(); ++k) {
        size_t length = segment_.bytes.size() - at;
        if (k + 1 < pieces_.size()) {
          const int64_t guess = std::max<int64_t>(0, int64_t(ends_[k - first_piece]) - int64_t(at));
          const int64_t real = kReads ? 0 : int64_t(source[size_t(original)].length) - guess;
          const int64_t given = guess + numbers_.difference(kPieceLength, int32_t(real));
          if (given < 0 || given > int64_t(length) || numbers_.overrun())
            return fail("a piece longer than its segment");
          length = size_t(given);
          if (!kReads) original = source[size_t(original)].next;
        }
        pieces_[k].offset = bytes_.size() + at, pieces_[k].length = uint32_t(length);
        at += length;
      }
      bytes_.insert(bytes_.end(), segment_.bytes.begin(), segment_.bytes.end());
    }
    block.last = -1;  // a writer's cursor
    return true;
  }

  bool packets(int number, J2kTile& tile, const J2kPacketReader& reader, std::vector<std::vector<uint8_t>>& parts) {
    const std::vector<size_t>& mine = by_tile_[size_t(number)];
    if (mine.empty()) return fail("a tile is missing");
    // packets of each part; 0: all the rest
    std::vector<size_t> counts(mine.size(), 0);
    size_t before = 0;
    for (size_t i = 0; i < mine.size(); ++i) {
      size_t n = 0;
      if (!kReads) {
        n = reader.part_packets[i] - before, before = reader.part_packets[i];
        if (i + 1 == mine.size()) n = before == tile.precincts.size() * size_t(s_.layers) ? 0 : n + 1;
        else ++n;
      }
      counts[i] = numbers_.number(kPartPackets, uint32_t(n));
      if (numbers_.overrun()) return fail("the details are cut short");
    }
    size_t part = 0, count = 0, in_part = 0;
    std::vector<uint8_t> header;
    tile.walk(s_.volumes_of(number), [&](J2kPrecinct& p, int layer) {
      while (counts[part] && in_part == counts[part] - 1) {
        if (part + 1 == counts.size()) return false;
        ++part, in_part = 0;
      }
      std::vector<uint8_t>& to = parts[mine[part]];
      if (!packet(tile, p, layer, reader, count, to)) return false;
      ++count, ++in_part;
      return true;
    });
    if (!error.empty()) return false;
    const size_t rest = numbers_.number(kRestBytes, kReads ? 0 : uint32_t(reader.rest_end - reader.rest_begin));
    for (size_t i = 0; i < rest; ++i) {
      parts[mine.back()].push_back(uint8_t(numbers_.uniform(256, kReads ? 0 : data_[reader.rest_begin + i])));
      if (numbers_.overrun()) return fail("the details are cut short");
    }
    return true;
  }

  bool packet(J2kTile& tile, J2kPrecinct& p, int layer, const J2kPacketReader& reader, size_t count,
              std::vector<uint8_t>& to) {
    const size_t begin = to.size();
    if (s_.sop) {
      const uint8_t sop[6] = {0xFF, 0x91, 0, 4, uint8_t(count >> 8), uint8_t(count)};
      to.insert(to.end(), sop, sop + 6);
    }
    // the blocks of the packet, and whether it has any piece
    mine_.clear();
    for (J2kPrecinct::Part& part : p.parts)
      if (part.band >= 0)
        for (int y = 0; y < part.rows; ++y)
          for (int x = 0; x < part.cols; ++x) {
            const J2kBlock& b =
                tile.blocks[tile.first_block[size_t(part.band)] +
                            size_t(part.row + y) * tile.band(part.band).grid_cols + size_t(part.col + x)];
            int32_t i = b.last < 0 ? b.first : pieces_[size_t(b.last)].next;
            for (; i >= 0 && pieces_[size_t(i)].layer == layer; i = pieces_[size_t(i)].next) mine_.push_back(i);
          }
    int nonempty = 1;
    if (mine_.empty()) {
      if (!kReads) {
        const J2kPacket& real = reader.packets[count];
        const uint8_t* at = data_ + real.begin;
        if (real.header_end - real.begin >= 6 && at[0] == 0xFF && at[1] == 0x91) at += 6;
        nonempty = *at >> 7;
      }
      nonempty = numbers_.flag(kEmptyBit, nonempty);
    }
    HeaderWriter bits(to);
    size_t body = 0;
    if (const char* wrong = tile.header(bits, p, layer, pieces_, nonempty, &body)) return fail(wrong);
    bits.align();
    if (s_.eph) to.push_back(0xFF), to.push_back(0x92);
    // headers that another encoder writes differently are kept
    bool odd = false;
    size_t length = 0;
    const uint8_t* real = nullptr;
    if (!kReads) {
      const J2kPacket& packet = reader.packets[count];
      real = data_ + packet.begin, length = packet.header_end - packet.begin;
      odd = length != to.size() - begin || !std::equal(real, real + length, to.begin() + std::ptrdiff_t(begin));
    }
    if (numbers_.flag(kOddHeader, odd)) {
      length = numbers_.number(kHeaderLength, uint32_t(length));
      to.resize(begin);
      for (size_t i = 0; i < length; ++i) {
        to.push_back(uint8_t(numbers_.uniform(256, kReads ? 0 : real[i])));
        if (numbers_.overrun()) return fail("the details are cut short");
      }
    }
    for (int32_t i : mine_) {
      const J2kPiece& piece = pieces_[size_t(i)];
      to.insert(to.end(), bytes_.begin() + std::ptrdiff_t(piece.offset),
                bytes_.begin() + std::ptrdiff_t(piece.offset + piece.length));
    }
    if (numbers_.overrun()) return fail("the details are cut short");
    return true;
  }

  Numbers<Bits> numbers_;
  const J2kStream& s_;
  const uint8_t* data_;
  Tier1 t1_;
  J2kSegment<Bits> segment_;
  std::vector<uint8_t> bytes_;
  std::vector<J2kPiece> pieces_;
  std::vector<std::pair<int, int>> shares_;
  std::vector<size_t> ends_;
  std::vector<int32_t> mine_;
  std::vector<std::vector<size_t>> by_tile_;
};

// The file without its packets: lengths of tile parts that follow are 0 there, those that were 0 are 1.
inline std::vector<uint8_t> j2k_template(const J2kStream& s, const uint8_t* data, size_t size) {
  std::vector<uint8_t> out(data, data + s.parts[0].sot);
  for (const J2kPart& p : s.parts) {
    const size_t at = out.size();
    out.insert(out.end(), data + p.sot, data + p.body);
    const bool open = !(out[at + 6] | out[at + 7] | out[at + 8] | out[at + 9]);
    std::fill(out.begin() + std::ptrdiff_t(at + 6), out.begin() + std::ptrdiff_t(at + 10), uint8_t(0));
    out[at + 9] = open;
  }
  out.insert(out.end(), data + s.parts.back().end, data + size);
  return out;
}

// Template and details of a file that j2k_decode has read. Empty string: good.
inline std::string j2k_take_apart(const uint8_t* data, size_t size, const J2kStream& s, const J2kImage& image,
                                  std::vector<uint8_t>& frame, std::vector<uint8_t>& details) {
  std::vector<const int32_t*> q;
  std::vector<const uint8_t*> passes, missing;
  for (size_t i = 0; i < image.bands.size(); ++i)
    q.push_back(image.q[i].get()), passes.push_back(image.passes[i].get()), missing.push_back(image.missing[i].get());
  BitEncoder bits;
  J2kDetails<BitEncoder> maker(bits, s, data);
  maker.head(s);
  std::vector<std::vector<uint8_t>> parts;
  if (!maker.run(image.bands, q.data(), passes.data(), missing.data(), parts)) return maker.error;
  for (size_t i = 0; i < parts.size(); ++i) {
    const J2kPart& p = s.parts[i];
    if (parts[i].size() != p.end - p.body || !std::equal(parts[i].begin(), parts[i].end(), data + p.body))
      return "its packets cannot be made again";
  }
  frame = j2k_template(s, data, size);
  details = bits.finish();
  while (!details.empty() && !details.back()) details.pop_back();  // a reader finds zeros behind the end
  return "";
}

// The file again. `fields` and arrays: those that the codestream was taken apart with.
inline std::string j2k_rebuild(const uint8_t* frame, size_t frame_size, const uint8_t* details, size_t details_size,
                               const J2kFields& fields, const std::vector<J2kBand>& bands, const int32_t* const* q,
                               const uint8_t* const* passes, const uint8_t* const* missing, std::vector<uint8_t>& out) {
  BitDecoder bits(details, details_size);
  J2kStream s;
  J2kDetails<BitDecoder> reader(bits, s, nullptr);
  size_t begin, count;
  reader.head(&begin, &count);
  J2kParser parser;
  if (!parser.read_template(frame, frame_size, begin, count, s)) return parser.error;
  if (!s.fields.same_bands(fields)) return "the structure is of another image";
  std::vector<std::vector<uint8_t>> parts;
  if (!reader.run(bands, q, passes, missing, parts)) return reader.error;
  out.assign(frame, frame + s.parts[0].sot);
  for (size_t i = 0; i < parts.size(); ++i) {
    const J2kPart& p = s.parts[i];
    const size_t at = out.size();
    out.insert(out.end(), frame + p.sot, frame + p.body);
    const uint64_t length = p.body - p.sot + parts[i].size();
    if (length > 0xFFFFFFFF) return "a tile part of more than 32 bits of length";
    for (int k = 0; k < 4; ++k) out[at + 6 + k] = frame[p.sot + 9] ? 0 : uint8_t(length >> (24 - 8 * k));
    out.insert(out.end(), parts[i].begin(), parts[i].end());
  }
  out.insert(out.end(), frame + s.end, frame + frame_size);
  return "";
}

}  // namespace dlpr
