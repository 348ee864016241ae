#include "run/options.h"

#include <charconv>
#include <string_view>

namespace fastmnist::run {
namespace {

Status bad_value(std::string_view option, const std::string& expected, std::string_view got) {
  return Status::invalid(std::string(option), expected, "'" + std::string(got) + "'");
}

struct Flag {
  std::string_view name;
  bool Options::*value;
};
constexpr Flag kFlags[] = {
    {"--time", &Options::time},       {"--json", &Options::json}, {"--list", &Options::list},
    {"--invert", &Options::invert},   {"--help", &Options::help}, {"-h", &Options::help},
    {"--version", &Options::version},
};

constexpr std::string_view kWithValue[] = {"--model", "--labels", "--output", "--threads",
                                           "--plan"};

Status set_threads(std::string_view value, Options& options) {
  const char* const end = value.data() + value.size();
  const auto [stop, error] = std::from_chars(value.data(), end, options.threads);
  if (error != std::errc() || stop != end || options.threads < 1 || options.threads > 1024)
    return bad_value("--threads", "1 to 1024", value);
  return {};
}

Status set_plan(std::string_view value, Options& options) {
  if (value == "stored")
    options.plan = FASTMNIST_PLAN_STORED;
  else if (value == "fixed")
    options.plan = FASTMNIST_PLAN_FIXED;
  else if (value == "measured")
    options.plan = FASTMNIST_PLAN_MEASURED;
  else
    return bad_value("--plan", "stored, fixed or measured", value);
  return {};
}

Status set_value(std::string_view name, std::string_view value, Options& options) {
  if (value.empty()) return bad_value(name, "a value", value);
  if (name == "--threads") return set_threads(value, options);
  if (name == "--plan") return set_plan(value, options);
  if (name == "--model") {
    options.models.emplace_back(value);
    return {};
  }
  std::string& once = name == "--labels" ? options.labels : options.output;
  if (!once.empty()) return bad_value(name, "one file", once + "' and '" + std::string(value));
  once = value;
  return {};
}

// What does not go together.
Status check(const Options& options) {
  if (options.help || options.version) return {};
  if (options.file.empty()) return Status::invalid("MODEL", "a file of fm.save", "none");
  if (options.list) {
    if (!options.rows.empty())
      return Status::invalid("--list", "no ROWS", "'" + options.rows[0] + "'");
    return {};
  }
  if (options.rows.empty()) return Status::invalid("ROWS", "at least one file", "none");
  if (options.output == "-" && (options.json || options.time))
    return Status::invalid("--output", "a file beside --json or --time", "'-'");
  return {};
}

}  // namespace

Result<Options> parse_options(int count, const char* const* words) {
  Options options;
  bool only_files = false;  // behind --
  for (int i = 0; i < count; ++i) {
    const std::string_view word = words[i];
    if (only_files || word.size() < 2 || word[0] != '-') {
      if (word.empty()) return Status::invalid("ROWS", "a file", "''");
      if (options.file.empty())
        options.file = word;
      else
        options.rows.emplace_back(word);
      continue;
    }
    if (word == "--") {
      only_files = true;
      continue;
    }
    const std::size_t equals = word.find('=');
    const std::string_view name = word.substr(0, equals);
    bool known = false;
    for (const Flag& flag : kFlags)
      if (flag.name == name) {
        if (equals != word.npos) return bad_value(name, "no value", word.substr(equals + 1));
        options.*flag.value = known = true;
      }
    for (const std::string_view with_value : kWithValue)
      if (with_value == name) {
        known = true;
        if (equals == word.npos && ++i == count)
          return Status::invalid(std::string(name), "a value", "nothing");
        const std::string_view value = equals == word.npos ? words[i] : word.substr(equals + 1);
        if (Status bad = set_value(name, value, options); !bad.ok()) return bad;
      }
    if (!known) return bad_value("options", "those that --help lists", word);
  }
  if (Status bad = check(options); !bad.ok()) return bad;
  return options;
}

}  // namespace fastmnist::run
