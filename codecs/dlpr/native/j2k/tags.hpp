// Bits of packet headers and their tag trees (Part 1, Annex B.10), read or written with the same code.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace dlpr {

// A 0 is stuffed after a byte FF. Past the end there are zeros, and `over` is set.
struct HeaderReader {
  static constexpr bool kReads = true;
  const uint8_t *p, *end;
  uint32_t byte = 0;
  int left = 0;
  bool over = false;
  HeaderReader(const uint8_t* p_, const uint8_t* end_) : p(p_), end(end_) {}
  int code(int) {
    if (!left) next();
    return int(byte >> --left & 1);
  }
  // To the next whole byte; a byte FF is followed by a stuffed one.
  void align() {
    if (byte == 0xFF) next();
    left = 0, byte = 0;
  }

 private:
  void next() {
    left = byte == 0xFF ? 7 : 8;
    if (p < end) byte = *p++;
    else byte = 0, over = true;
  }
};

struct HeaderWriter {
  static constexpr bool kReads = false;
  std::vector<uint8_t>& out;
  uint32_t byte = 0;
  int left = 8;
  bool over = false;
  explicit HeaderWriter(std::vector<uint8_t>& out_) : out(out_) {}
  int code(int bit) {
    byte |= uint32_t(bit) << --left;
    if (!left) push();
    return bit;
  }
  void align() {
    if (left != (fresh_ ? 7 : 8)) push();
    if (fresh_) push();
    left = 8;
  }

 private:
  void push() {
    out.push_back(uint8_t(byte));
    fresh_ = byte == 0xFF;
    left = fresh_ ? 7 : 8, byte = 0;
  }
  bool fresh_ = false;  // the last byte was FF, and the next has seven bits
};

template <class Bits>
uint32_t header_number(Bits& bits, int width, uint32_t value) {
  uint32_t v = 0;
  for (int i = width - 1; i >= 0; --i) v = v << 1 | uint32_t(bits.code(int(value >> i & 1)));
  return v;
}

struct TagNode {
  int32_t parent;
  uint16_t value;  // what is known, or to be written
  uint16_t low;    // it is at least that
  bool known;
};

// Nodes of a tree over rows x cols leaves are appended to `nodes`, leaves first.
inline void tag_tree_add(std::vector<TagNode>& nodes, int rows, int cols) {
  size_t at = nodes.size();
  while (rows && cols) {
    const size_t next = at + size_t(rows) * cols;
    const int up = (cols + 1) / 2;
    const bool top = rows == 1 && cols == 1;
    for (int y = 0; y < rows; ++y)
      for (int x = 0; x < cols; ++x)
        nodes.push_back({top ? -1 : int32_t(next + size_t(y / 2) * up + x / 2), 0xFFFF, 0, false});
    if (top) break;
    at = next, rows = (rows + 1) / 2, cols = up;
  }
}

// Values of the inner nodes: the least of their leaves'.
inline void tag_tree_close(std::vector<TagNode>& nodes, size_t first, size_t last) {
  for (size_t i = first; i < last; ++i) {
    const int32_t up = nodes[i].parent;
    if (up >= 0 && nodes[i].value < nodes[size_t(up)].value) nodes[size_t(up)].value = nodes[i].value;
  }
}

// Is the leaf's value below the threshold?
template <class Bits>
bool tag_tree_below(Bits& bits, std::vector<TagNode>& nodes, size_t leaf, uint16_t threshold) {
  int32_t path[32];
  int n = 0;
  for (int32_t i = int32_t(leaf); i >= 0; i = nodes[size_t(i)].parent) path[n++] = i;
  uint16_t low = 0;
  while (n) {
    TagNode& node = nodes[size_t(path[--n])];
    if (low < node.low) low = node.low;
    while (low < threshold && !node.known) {
      if (bits.code(node.value <= low)) node.value = low, node.known = true;
      else ++low;
    }
    node.low = low;
  }
  const TagNode& node = nodes[leaf];
  return node.known && node.value < threshold;
}

}  // namespace dlpr
