#include <capstan/client/cli/sync-options.h>

#include <capstan/base/text.h>

namespace capstan::cli {

namespace {

Result<uint64_t> bytesPerSecond(const std::string& text) {
  std::string_view size = text;
  if (size.size() > 2 && size.substr(size.size() - 2) == "/s") size.remove_suffix(2);
  auto bytes = parseSize(size);
  if (!bytes || *bytes == 0) {
    return Error{ErrorCode::INVALID_ARGUMENT,
                 "--bwlimit: \"" + escapeForTerminal(text) + "\" is no rate; write 512KiB, 10MB or 10MB/s",
                 {}};
  }
  return *bytes;
}

}  // namespace

void defineRuleOptions(OptionTable& table, SyncOptions& options) {
  table.choice("--mode", options.mode, "push|pull|two-way",
               "push: the server becomes a mirror of LOCAL (default); pull: the reverse; two-way: changes of both");
  table.texts("--exclude", options.exclude, "PATTERN", "leave alone what matches, in gitignore syntax; repeatable");
  table.texts("--exclude-from", options.excludeFrom, "FILE", "patterns from a file, one on each line; repeatable");
}

void defineSyncOptions(OptionTable& table, SyncOptions& options) {
  defineRuleOptions(table, options);
  table.flag("--once", options.once, "bring both into step and end");
  table.duration("--interval", options.interval, "look again after this long at the latest (4s)");
  table.flag("--no-watch", options.noWatch, "only look every interval; do not ask to be told of changes");
  table.flag("-n,--dry-run", options.dryRun, "only say what would be done, operation by operation");
  table.flag("--checksum", options.checksum, "compare contents where size and time are the same");
  table.text("--bwlimit", options.bandwidth, "RATE", "send and receive at most so much in a second: 512KiB, 10MB");
  table.number("--accept-deletes", options.acceptDeletes, "carry out exactly so many deletions that safety stopped");
}

Result<sync::ServiceOptions> serviceOptionsOf(const SyncOptions& options) {
  sync::ServiceOptions service;
  if (options.mode) service.mode = *sync::modeByName(*options.mode);
  if (options.interval == 0u)
    return Error{ErrorCode::INVALID_ARGUMENT, "--interval takes a duration of more than 0", {}};
  service.interval = options.interval.value_or(service.interval);
  service.watch = !options.noWatch;
  service.checkContent = options.checksum;
  service.acceptDeletes = options.acceptDeletes;
  if (options.bandwidth) {
    auto rate = bytesPerSecond(*options.bandwidth);
    if (!rate.ok()) return rate.error();
    service.bytesPerSecond = *rate;
  }
  for (auto& pattern : options.exclude) service.exclude.push_back({pattern, "--exclude", 0});
  for (auto& file : options.excludeFrom) {
    auto patterns = sync::IgnoreRules::readPatterns(file);
    if (!patterns.ok()) return patterns.error();
    service.exclude.insert(service.exclude.end(), patterns->begin(), patterns->end());
  }
  return service;
}

}  // namespace capstan::cli
