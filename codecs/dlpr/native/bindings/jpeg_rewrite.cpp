// Bindings of JPEG bytes taken apart and made again, a translation unit of their own.
#include "bindings/arrays.hpp"
#include "jpeg/codec.hpp"
#include "jpeg/split.hpp"
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

namespace dlpr {
namespace {

const uint8_t* bytes_of(const nb::bytes& b) { return reinterpret_cast<const uint8_t*>(b.c_str()); }

nb::bytes as_bytes(const uint8_t* p, size_t n) { return nb::bytes(reinterpret_cast<const char*>(p), n); }

// (error text, template, splices (at, removed, inserted), height, width, (sampling v, h), (jfif, adobe transform or -1,
// component ids), tables, coefficients)
nb::tuple result(const SplitJpeg& s) {
  const ParsedJpeg& parsed = s.parsed;
  const JpegFields& f = parsed.fields;
  nb::list quant, coefficients, ids, splices;
  const bool good = s.error.empty();
  for (const Splice& x : s.splices) splices.append(nb::make_tuple(x.at, x.removed, as_bytes(x.inserted, x.size)));
  for (int c = 0; good && c < f.components; ++c) {
    quant.append(copied(f.tables[c], {8, 8}));
    coefficients.append(copied(parsed.q[c].data(), {size_t(f.rows(c)), size_t(f.cols(c)), 8, 8}));
    ids.append(parsed.ids[c]);
  }
  return nb::make_tuple(
      s.error, as_bytes(s.program.data(), s.program.size()), splices, f.H, f.W, nb::make_tuple(f.sv, f.sh),
      nb::make_tuple(parsed.jfif, parsed.adobe ? parsed.adobe_transform : -1, ids), quant, coefficients);
}

nb::tuple jpeg_split(nb::bytes data, nb::bytes tables) {
  SplitJpeg out;
  {
    nb::gil_scoped_release free_gil;
    JpegSplitter(bytes_of(data), data.size(), out).image(bytes_of(tables), tables.size());
  }
  return result(out);
}

nb::tuple jpeg_split_interval(nb::bytes head, nb::bytes data, int rows, int columns) {
  SplitJpeg out;
  {
    nb::gil_scoped_release free_gil;
    JpegSplitter(bytes_of(data), data.size(), out).interval(bytes_of(head), head.size(), rows, columns);
  }
  return result(out);
}

// Tables uint16 [components, 64] and coefficients of whole MCUs, the others with one block in each.
struct RewriteArrays {
  std::vector<In<int16_t>> keep;
  RewriteInput in;
  RewriteArrays(nb::bytes program, const In<uint16_t>& tables, nb::list arrays, int sv, int sh) {
    in.program = bytes_of(program), in.program_size = program.size();
    JpegFields& f = in.f;
    f.components = int(arrays.size()), f.sv = sv, f.sh = sh;
    if ((f.components != 1 && f.components != 3) || tables.ndim() != 2 || int(tables.shape(0)) != f.components ||
        tables.shape(1) != 64 || sv < 1 || sv > 2 || sh < 1 || sh > 2)
      throw nb::value_error("JPEG tables");
    for (int c = 0; c < f.components; ++c) {
      keep.push_back(nb::cast<In<int16_t>>(arrays[c]));
      const auto& a = keep.back();
      if (a.ndim() != 4 || a.shape(2) != 8 || a.shape(3) != 8) throw nb::value_error("JPEG coefficients");
      std::copy_n(tables.data() + 64 * c, 64, f.tables[c]);
      in.q[c] = a.data();
    }
    const size_t rows = keep[0].shape(0), cols = keep[0].shape(1), most = 1u << 23;
    if (rows < 1 || cols < 1 || rows > most || cols > most || rows * cols > (1u << 24) || rows % size_t(sv) ||
        cols % size_t(sh))
      throw nb::value_error("JPEG coefficients");
    f.H = int(rows) * 8, f.W = int(cols) * 8;
    for (int c = 0; c < f.components; ++c)
      if (int(keep[size_t(c)].shape(0)) != f.rows(c) || int(keep[size_t(c)].shape(1)) != f.cols(c))
        throw nb::value_error("JPEG coefficients");
  }
};

// (error text, bytes)
nb::tuple jpeg_join(nb::bytes program, In<uint16_t> tables, nb::list arrays, int sv, int sh) {
  const RewriteArrays a(program, tables, arrays, sv, sh);
  JpegWriter writer(a.in);
  {
    nb::gil_scoped_release free_gil;
    writer.run();
  }
  return nb::make_tuple(writer.error, as_bytes(writer.out.data(), writer.error.empty() ? writer.out.size() : 0));
}

// (error text, template) of restart intervals.
nb::tuple jpeg_template(nb::bytes head, bool zeros) {
  ParsedJpeg parsed;  // quantisation tables are not written: none need be known
  const auto program = interval_template(parsed, bytes_of(head), head.size(), zeros ? kTemplateZeros : 0);
  RewriteInput in;
  in.program = program.data(), in.program_size = program.size(), in.f.components = 3;
  JpegFields f;
  JpegWriter writer(in);
  writer.form(f);
  return nb::make_tuple(writer.error, as_bytes(program.data(), program.size()));
}

// (error text, rows and columns of MCUs, sampling v, h, components) that a template is for.
nb::tuple jpeg_template_form(nb::bytes program) {
  RewriteInput in;
  in.program = bytes_of(program), in.program_size = program.size(), in.f.components = 3;
  JpegFields f;
  JpegWriter writer(in);
  writer.form(f);
  return nb::make_tuple(writer.error, f.mcu_rows(), f.mcu_cols(), f.sv, f.sh, f.components);
}

// Intervals, each (first MCU, MCUs): a list of (error text, bytes).
nb::list jpeg_join_intervals(nb::bytes program, In<uint16_t> tables, nb::list arrays, int sv, int sh,
                             std::vector<std::pair<int64_t, int64_t>> spans) {
  const RewriteArrays a(program, tables, arrays, sv, sh);
  const int64_t all = int64_t(a.in.f.mcu_rows()) * a.in.f.mcu_cols();
  std::vector<std::pair<std::string, std::vector<uint8_t>>> made(spans.size());
  {
    nb::gil_scoped_release free_gil;
    for (size_t i = 0; i < spans.size(); ++i) {
      RewriteInput in = a.in;
      in.first = spans[i].first, in.mcus = spans[i].second;
      if (in.first < 0 || in.mcus < 1 || in.first >= all || in.mcus > all - in.first) {
        made[i].first = "an interval outside of the coefficients";
        continue;
      }
      JpegWriter writer(in);
      writer.run();
      made[i].first = writer.error, made[i].second.swap(writer.out);
    }
  }
  nb::list out;
  for (const auto& [error, data] : made)
    out.append(nb::make_tuple(error, as_bytes(data.data(), error.empty() ? data.size() : 0)));
  return out;
}

}  // namespace
}  // namespace dlpr

void bind_jpeg_rewrite(nb::module_& m) {
  using namespace dlpr;
  m.def("jpeg_split", &jpeg_split, "data"_a, "tables"_a);
  m.def("jpeg_split_interval", &jpeg_split_interval, "head"_a, "data"_a, "rows"_a, "columns"_a);
  m.def("jpeg_join", &jpeg_join, "template"_a, "tables"_a, "coefficients"_a, "sampling_v"_a, "sampling_h"_a);
  m.def("jpeg_template", &jpeg_template, "head"_a, "zeros"_a);
  m.def("jpeg_template_form", &jpeg_template_form, "template"_a);
  m.def("jpeg_join_intervals", &jpeg_join_intervals, "template"_a, "tables"_a, "coefficients"_a, "sampling_v"_a,
        "sampling_h"_a, "spans"_a);
}
