// Bindings of the JPEG 2000 layer, a translation unit of their own.
#include "bindings/arrays.hpp"
#include "j2k/synthesis.hpp"
#include "j2k/write.hpp"
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

namespace dlpr {

// ((top, left, bottom, right), (tile top, left, height, width), components, transform, colour); a component is
// ((sampling v, h), reversible, ((block height, width exponents) by resolution), ((exponent, mantissa) by band), guard,
// causal, points, whole); then the window (top, left, bottom, right) or None: what Python's Fields has checked.
J2kFields j2k_fields(nb::tuple t) {
  J2kFields f;
  auto four = [](nb::handle h, int* a, int* b, int* c, int* d) {
    nb::tuple v = nb::cast<nb::tuple>(h);
    *a = nb::cast<int>(v[0]), *b = nb::cast<int>(v[1]), *c = nb::cast<int>(v[2]), *d = nb::cast<int>(v[3]);
  };
  four(t[0], &f.top, &f.left, &f.bottom, &f.right);
  four(t[1], &f.tile_top, &f.tile_left, &f.tile_h, &f.tile_w);
  nb::tuple components = nb::cast<nb::tuple>(t[2]);
  f.components = int(components.size());
  f.transform = nb::cast<int>(t[3]), f.colour = nb::cast<int>(t[4]);
  f.windowed = !t[5].is_none();
  if (f.windowed) four(t[5], &f.window.y0, &f.window.x0, &f.window.y1, &f.window.x1);
  if (f.components != 1 && f.components != 3) throw nb::value_error("J2K components");
  for (int k = 0; k < f.components; ++k) {
    nb::tuple v = nb::cast<nb::tuple>(components[k]);
    J2kComponent& c = f.comp[k];
    nb::tuple sampling = nb::cast<nb::tuple>(v[0]), blocks = nb::cast<nb::tuple>(v[2]);
    nb::tuple steps = nb::cast<nb::tuple>(v[3]);
    c.sv = nb::cast<int>(sampling[0]), c.sh = nb::cast<int>(sampling[1]), c.reversible = nb::cast<int>(v[1]);
    c.levels = int(blocks.size()) - 1, c.guard = nb::cast<int>(v[4]), c.causal = nb::cast<int>(v[5]);
    c.points = nb::cast<int>(v[6]), c.whole = nb::cast<int>(v[7]);
    if (c.levels < 0 || c.levels > kJ2kMaxLevels || int(steps.size()) != 3 * c.levels + 1)
      throw nb::value_error("J2K decompositions");
    for (int r = 0; r <= c.levels; ++r) {
      nb::tuple b = nb::cast<nb::tuple>(blocks[r]);
      c.block_h[r] = nb::cast<uint8_t>(b[0]), c.block_w[r] = nb::cast<uint8_t>(b[1]);
    }
    for (int b = 0; b <= 3 * c.levels; ++b) {
      nb::tuple s = nb::cast<nb::tuple>(steps[b]);
      c.exponent[b] = nb::cast<uint8_t>(s[0]), c.mantissa[b] = nb::cast<uint16_t>(s[1]);
    }
  }
  if (!f.good()) throw nb::value_error("J2K field out of range");
  return f;
}

nb::tuple j2k_fields_tuple(const J2kFields& f) {
  nb::list components;
  for (int k = 0; k < f.components; ++k) {
    const J2kComponent& c = f.comp[k];
    nb::list blocks, steps;
    for (int r = 0; r <= c.levels; ++r) blocks.append(nb::make_tuple(int(c.block_h[r]), int(c.block_w[r])));
    for (int b = 0; b <= 3 * c.levels; ++b) steps.append(nb::make_tuple(int(c.exponent[b]), int(c.mantissa[b])));
    components.append(nb::make_tuple(nb::make_tuple(c.sv, c.sh), c.reversible, nb::tuple(blocks), nb::tuple(steps),
                                     c.guard, c.causal, c.points, c.whole));
  }
  nb::object window = nb::none();
  if (f.windowed) window = nb::make_tuple(f.window.y0, f.window.x0, f.window.y1, f.window.x1);
  return nb::make_tuple(nb::make_tuple(f.top, f.left, f.bottom, f.right),
                        nb::make_tuple(f.tile_top, f.tile_left, f.tile_h, f.tile_w), nb::tuple(components), f.transform,
                        f.colour, window);
}

// Arrays of a J2kImage of Python, checked to fit the bands.
struct J2kViews {
  std::vector<J2kBand> bands;
  std::vector<In<int32_t>> keep_q;
  std::vector<In<uint8_t>> keep;
  std::vector<const int32_t*> q;
  std::vector<const uint8_t*> passes, missing;
  J2kViews(const J2kFields& f, nb::tuple arrays) : bands(j2k_bands(f)) {
    nb::tuple a = nb::cast<nb::tuple>(arrays[0]), b = nb::cast<nb::tuple>(arrays[1]),
              c = nb::cast<nb::tuple>(arrays[2]);
    if (a.size() != bands.size() || b.size() != bands.size() || c.size() != bands.size())
      throw nb::value_error("J2K bands");
    for (size_t i = 0; i < bands.size(); ++i) {
      const J2kBand& band = bands[i];
      keep_q.push_back(nb::cast<In<int32_t>>(a[i]));
      const auto& x = keep_q.back();
      if (x.ndim() != 2 || int(x.shape(0)) != std::max(band.rows(), 0) || int(x.shape(1)) != std::max(band.cols(), 0))
        throw nb::value_error("J2K coefficients");
      q.push_back(x.data());
      for (int k = 0; k < 2; ++k) {
        keep.push_back(nb::cast<In<uint8_t>>(k ? c[i] : b[i]));
        const auto& y = keep.back();
        if (y.ndim() != 2 || int(y.shape(0)) != band.grid_rows || int(y.shape(1)) != band.grid_cols)
          throw nb::value_error("J2K counts");
        (k ? missing : passes).push_back(y.data());
      }
      for (size_t n = 0; n < band.blocks(); ++n) {
        const int planes = band.planes - missing[i][n];
        if (passes[i][n] && (planes < 1 || planes > kJ2kMaxPlanes || passes[i][n] > 3 * planes - 2))
          throw nb::value_error("J2K passes");
      }
    }
  }
};

nb::bytes j2k_bytes(const std::vector<uint8_t>& v) {
  return nb::bytes(reinterpret_cast<const char*>(v.data()), v.size());
}

// (error text, fields, coefficients, passes, missing, template, details); the last two are empty unless asked for.
nb::tuple j2k_parse_bytes(nb::bytes data, bool structure) {
  J2kStream s;
  J2kImage image;
  std::string error;
  std::vector<uint8_t> frame, details;
  {
    nb::gil_scoped_release free_gil;
    const uint8_t* p = reinterpret_cast<const uint8_t*>(data.c_str());
    error = j2k_decode(p, data.size(), s, image);
    if (error.empty() && structure) error = j2k_take_apart(p, data.size(), s, image, frame, details);
  }
  nb::list q, passes, missing;
  for (size_t i = 0; error.empty() && i < image.bands.size(); ++i) {
    const J2kBand& b = image.bands[i];
    const size_t rows = size_t(std::max(b.rows(), 0)), cols = size_t(std::max(b.cols(), 0));
    const size_t grid_rows = size_t(b.grid_rows), grid_cols = size_t(b.grid_cols);
    q.append(adopt(image.q[i].release(), {rows, cols}));
    passes.append(adopt(image.passes[i].release(), {grid_rows, grid_cols}));
    missing.append(adopt(image.missing[i].release(), {grid_rows, grid_cols}));
  }
  return nb::make_tuple(error, error.empty() ? nb::object(j2k_fields_tuple(s.fields)) : nb::none(), nb::tuple(q),
                        nb::tuple(passes), nb::tuple(missing), j2k_bytes(frame), j2k_bytes(details));
}

// (error text, file)
nb::tuple j2k_rebuild_bytes(nb::tuple fields, nb::tuple arrays, nb::bytes frame, nb::bytes details) {
  const J2kFields f = j2k_fields(fields);
  const J2kViews v(f, arrays);
  std::vector<uint8_t> out;
  std::string error;
  {
    nb::gil_scoped_release free_gil;
    error = j2k_rebuild(reinterpret_cast<const uint8_t*>(frame.c_str()), frame.size(),
                        reinterpret_cast<const uint8_t*>(details.c_str()), details.size(), f, v.bands, v.q.data(),
                        v.passes.data(), v.missing.data(), out);
  }
  return nb::make_tuple(error, j2k_bytes(out));
}

// (error text, codestream)
nb::tuple j2k_write_bytes(nb::tuple fields, nb::tuple arrays) {
  const J2kFields f = j2k_fields(fields);
  const J2kViews v(f, arrays);
  std::vector<uint8_t> out;
  J2kWriter writer;
  {
    nb::gil_scoped_release free_gil;
    writer.write(f, v.bands, v.q.data(), v.passes.data(), v.missing.data(), out);
  }
  return nb::make_tuple(writer.error, j2k_bytes(out));
}

nb::object j2k_synthesise_array(nb::tuple fields, nb::tuple arrays) {
  const J2kFields f = j2k_fields(fields);
  const J2kViews v(f, arrays);
  uint8_t* p;
  auto out = new_array<uint8_t>({size_t(f.kept_height()), size_t(f.kept_width()), size_t(f.components)}, &p);
  {
    nb::gil_scoped_release free_gil;
    j2k_synthesise(f, v.bands, v.q.data(), v.passes.data(), v.missing.data(), p);
  }
  return nb::cast(out);
}

}  // namespace dlpr

void bind_j2k(nb::module_& m) {
  using namespace dlpr;
  m.def("j2k_parse", &j2k_parse_bytes, "data"_a, "structure"_a);
  m.def("j2k_rebuild", &j2k_rebuild_bytes, "fields"_a, "arrays"_a, "template"_a, "details"_a);
  m.def("j2k_write", &j2k_write_bytes, "fields"_a, "arrays"_a);
  m.def("j2k_synthesise", &j2k_synthesise_array, "fields"_a, "arrays"_a);
}
