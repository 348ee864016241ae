#include "run/json_writer.h"
#include "run/report.h"

namespace fastmnist::run {
namespace {

using Shape = std::vector<std::size_t>;

void write_shape(JsonWriter& json, const Shape& shape) {
  json.begin_array();
  for (const std::size_t n : shape) json.value(n);
  json.end_array();
}

void begin(JsonWriter& json, const std::string& file) {
  const char* isa = fastmnist_isa();
  json.begin_object().key("format").value(1).key("version").value(fastmnist_version());
  json.key("isa").value(isa != nullptr ? isa : "").key("threads").value(fastmnist_num_threads());
  json.key("file").value(file);
}

void write_rows(JsonWriter& json, const Rows& rows) {
  json.key("rows").begin_object().key("count").value(rows.count);
  json.key("type").value(rows.are_pixels ? "uint8" : "float32").key("shape");
  write_shape(json, rows.shape);
  json.key("files").begin_array();
  for (const std::string& file : rows.files) json.value(std::string_view(file));
  json.end_array().end_object();
}

void write_latencies(JsonWriter& json, const std::vector<Latency>& latencies) {
  json.begin_array();
  for (const Latency& of : latencies) {
    json.begin_object().key("rows").value(of.rows).key("calls").value(of.calls);
    json.key("p50_us").value(of.p50).key("p90_us").value(of.p90).key("p99_us").value(of.p99);
    json.key("rows_per_second").value(of.rows_per_second()).end_object();
  }
  json.end_array();
}

void write_answers(JsonWriter& json, const Report& report, const Answers& of) {
  json.begin_object().key("name").value(std::string_view(of.model->name()));
  json.key("bytes").value(fastmnist_bytes(of.model->get()));
  json.key("differ").value(of.differ);
  json.key("correct");
  report.labels.empty() ? json.null() : json.value(of.correct);
  json.key("accuracy");
  report.labels.empty() ? json.null() : json.value(report.accuracy(of));
  json.key("counts").begin_array();
  for (const auto& [number, count] : of.counts)
    json.begin_object().key("class").value(number).key("rows").value(count).end_object();
  json.end_array().key("classes");
  if (report.rows->count <= kFewRows) {
    json.begin_array();
    for (const std::int64_t number : of.classes.values()) json.value(number);
    json.end_array();
  } else {
    json.null();
  }
  json.key("latency");
  of.latency.empty() ? (void)json.null() : write_latencies(json, of.latency);
  json.end_object();
}

void write_ports(JsonWriter& json, const Model& model) {
  const fastmnist_model* const c = model.get();
  json.key("inputs").begin_array();
  for (std::size_t i = 0; i < fastmnist_inputs(c); ++i) {
    const char* name = fastmnist_input_name(c, i);
    json.begin_object().key("name").value(name != nullptr ? name : "");
    json.key("size").value(fastmnist_input_size(c, i)).key("shape");
    write_shape(json, model.input_shape(i));
    json.key("pixels").value(fastmnist_takes_pixels(c, i) != 0).end_object();
  }
  json.end_array().key("outputs").begin_array();
  for (std::size_t i = 0; i < fastmnist_outputs(c); ++i) {
    json.begin_object().key("size").value(fastmnist_output_size(c, i)).key("shape");
    write_shape(json, model.output_shape(i));
    json.key("indexes").value(fastmnist_gives_indexes(c, i) != 0).end_object();
  }
  json.end_array();
}

}  // namespace

std::string json_of(const Report& report) {
  JsonWriter json;
  begin(json, report.file);
  write_rows(json, *report.rows);
  json.key("labels");
  report.labels.empty() ? json.null() : json.value(std::string_view(report.labels));
  json.key("models").begin_array();
  for (const Answers& of : report.answers) write_answers(json, report, of);
  json.end_array().end_object();
  return json.text() + "\n";
}

std::string json_of_list(const std::string& file, std::span<const Listed> models) {
  JsonWriter json;
  begin(json, file);
  json.key("models").begin_array();
  for (const Listed& listed : models) {
    json.begin_object().key("name").value(std::string_view(listed.name)).key("error");
    if (listed.model.ok()) {
      json.null().key("bytes").value(fastmnist_bytes((*listed.model).get()));
      write_ports(json, *listed.model);
    } else {
      json.value(std::string_view(listed.model.status().text()));
    }
    json.end_object();
  }
  json.end_array().end_object();
  return json.text() + "\n";
}

}  // namespace fastmnist::run
