#include <capstan/client/cli/limit-flags.h>

#include <algorithm>

#include <capstan/base/text.h>
#include <capstan/client/cli/arguments.h>

namespace capstan::cli {

namespace {

using server::LimitRow;
using server::LimitUnit;

Error wrong(const std::string& sentence) { return {ErrorCode::INVALID_ARGUMENT, "--limit: " + sentence, {}}; }

Error unknown(const std::string& name) {
  std::vector<std::string> names;
  for (const LimitRow& row : server::limitTable()) {
    names.push_back(row.fullName());
    names.push_back(row.name);
  }
  std::string nearest = nearestName(name, names);
  return wrong("there is no limit " + escapeForTerminal(name) +
               (nearest.empty() ? "" : "; did you mean " + nearest + "?") + "; --limit help lists all");
}

Result<const LimitRow*> rowNamed(const std::string& name) {
  std::vector<const LimitRow*> found;
  for (const LimitRow& row : server::limitTable()) {
    if (name == row.fullName()) return &row;
    if (name == row.name) found.push_back(&row);
  }
  if (found.empty()) return unknown(name);
  if (found.size() == 1) return found[0];
  std::string choice;
  for (const LimitRow* row : found) {
    choice += (choice.empty() ? "" : row == found.back() ? " or " : ", ") + row->fullName();
  }
  return wrong("there is more than one limit " + name + "; say " + choice);
}

std::string exampleOf(LimitUnit unit) {
  switch (unit) {
    case LimitUnit::BYTES: return "a size, as in 64MiB";
    case LimitUnit::NANOSECONDS: return "a duration, as in 30s";
    default: return "a number";
  }
}

std::string padded(std::string text, size_t width) {
  text.append(text.size() < width ? width - text.size() : 1, ' ');
  return text;
}

}  // namespace

Status setLimit(server::Limits& limits, const std::string& typed) {
  size_t equals = typed.find('=');
  if (equals == std::string::npos) {
    return wrong("it takes NAME=VALUE, not " + escapeForTerminal(typed) + "; --limit help lists the names");
  }
  auto row = rowNamed(typed.substr(0, equals));
  if (!row.ok()) return row.error();
  std::string text = typed.substr(equals + 1);
  auto value = server::parseLimit((*row)->unit, text);
  if (!value) {
    return wrong((*row)->fullName() + " takes " + exampleOf((*row)->unit) + ", not " + escapeForTerminal(text));
  }
  auto set = limits.set((*row)->limit, *value);
  return set.ok() ? okStatus() : Status(wrong(set.error().message));
}

std::string describeLimits(const server::Limits& limits) {
  constexpr size_t NAME_WIDTH = 30, VALUE_WIDTH = 12;
  std::string text;
  for (const LimitRow& row : server::limitTable()) {
    uint64_t value = limits[row.limit];
    text += padded(row.fullName(), NAME_WIDTH) +
            padded(value == 0 ? "none" : server::formatLimit(row.unit, value), VALUE_WIDTH) + row.meaning + "\n";
  }
  return text;
}

}  // namespace capstan::cli
