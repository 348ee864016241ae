#include "bindings/coded.h"

#include <memory>
#include <span>
#include <string>

#include "bindings/errors.h"
#include "bindings/numpy_arrays.h"
#include "files/bit_coder.h"
#include "files/coded_stream.h"
#include "files/mixing.h"

namespace fastmnist::bindings {
namespace {

std::span<const std::uint8_t> view_of(const py::bytes& bytes) {
  const auto text = static_cast<std::string_view>(bytes);
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

py::bytes bytes_of(std::span<const std::uint8_t> values) {
  return {reinterpret_cast<const char*>(values.data()), values.size()};
}

void write_bytes(CodedWriter& writer, const py::bytes& values, int stride) {
  const std::span<const std::uint8_t> view = view_of(values);
  const py::gil_scoped_release unlocked;
  unwrap(writer.bytes(view, stride));
}

void write_weights(CodedWriter& writer, const Array<std::int8_t>& weights) {
  if (weights.ndim() != 2) invalid("weights", "[outputs, inputs]", shape_text(weights));
  const std::int8_t* values = weights.data();
  const py::gil_scoped_release unlocked;
  unwrap(writer.weights(values, weights.shape(0), weights.shape(1)));
}

// The bytes and what reads them.
struct Reader {
  py::bytes bytes;
  std::unique_ptr<CodedReader> stream;

  explicit Reader(py::bytes all)
      : bytes(std::move(all)), stream(unwrap(CodedReader::open(view_of(bytes)))) {}
};

py::bytes read_bytes(Reader& reader, std::uint64_t count, int stride) {
  unwrap(reader.stream->check_room_for_bytes(count));
  Array<std::uint8_t> values(static_cast<py::ssize_t>(count));
  const std::span taken(values.mutable_data(), static_cast<std::size_t>(count));
  {
    const py::gil_scoped_release unlocked;
    unwrap(reader.stream->bytes(taken, stride));
  }
  return {reinterpret_cast<const char*>(taken.data()), taken.size()};
}

Array<std::int8_t> read_weights(Reader& reader, std::int64_t outputs, std::int64_t inputs) {
  unwrap(reader.stream->check_room_for_weights(outputs, inputs));
  Array<std::int8_t> values({outputs, inputs});
  std::int8_t* taken = values.mutable_data();
  const py::gil_scoped_release unlocked;
  unwrap(reader.stream->weights(taken, outputs, inputs));
  return values;
}

// Bytes by their frequencies so far alone: what the coder itself costs, for tests.
py::bytes encode_by_frequency(const py::bytes& values) {
  ByteSink out;
  BitCoder coder(out);
  std::array<Counter, 256> counters;
  for (const std::uint8_t value : view_of(values)) {
    std::size_t node = 1;
    for (int i = 7; i >= 0; --i) {
      Counter& counter = counters[node];
      const int bit = coder.code((value >> i) & 1, counter.p() >> (22 - kProbabilityBits));
      counter.update(bit, Counter::kSteps - 1);
      node = 2 * node + static_cast<std::size_t>(bit);
    }
  }
  coder.finish();
  return bytes_of(out.bytes());
}

}  // namespace

void register_coded(py::module_& m) {
  const auto weights = py::arg("weights").noconvert();
  py::class_<CodedWriter>(m, "CodedWriter", "Writes numbers, bytes and int8 weights, compressed.")
      .def(py::init<>())
      .def("number", &CodedWriter::number, py::arg("value"))
      .def("bytes", &write_bytes, py::arg("values"), py::arg("stride") = 1)
      .def("weights", &write_weights, weights)
      .def("finish", [](CodedWriter& writer) { return bytes_of(unwrap(writer.finish())); });
  py::class_<Reader>(m, "CodedReader", "Reads what a CodedWriter wrote, in the same order.")
      .def(py::init<py::bytes>(), py::arg("bytes"))
      .def("number", [](Reader& reader) { return reader.stream->number(); })
      .def("bytes", &read_bytes, py::arg("count"), py::arg("stride") = 1)
      .def("weights", &read_weights, py::arg("outputs"), py::arg("inputs"))
      .def("finish", [](Reader& reader) { unwrap(reader.stream->finish()); });
  m.def(
      "encode_weights",
      [](const Array<std::int8_t>& values) {
        CodedWriter writer;
        write_weights(writer, values);
        return bytes_of(unwrap(writer.finish()));
      },
      weights);
  m.def(
      "decode_weights",
      [](py::bytes bytes, std::int64_t outputs, std::int64_t inputs) {
        Reader reader(std::move(bytes));
        Array<std::int8_t> values = read_weights(reader, outputs, inputs);
        unwrap(reader.stream->finish());
        return values;
      },
      py::arg("bytes"), py::arg("outputs"), py::arg("inputs"));
  m.def(
      "encode_bytes",
      [](const py::bytes& values, int stride) {
        CodedWriter writer;
        write_bytes(writer, values, stride);
        return bytes_of(unwrap(writer.finish()));
      },
      py::arg("values"), py::arg("stride") = 1);
  m.def(
      "decode_bytes",
      [](py::bytes bytes, std::uint64_t count, int stride) {
        Reader reader(std::move(bytes));
        py::bytes values = read_bytes(reader, count, stride);
        unwrap(reader.stream->finish());
        return values;
      },
      py::arg("bytes"), py::arg("count"), py::arg("stride") = 1);
  m.def("encode_by_frequency", &encode_by_frequency, py::arg("values"));
}

}  // namespace fastmnist::bindings
