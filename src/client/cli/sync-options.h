// The flags of `sync`, and what they mean for the service.
#pragma once

#include <capstan/client/cli/arguments.h>
#include <capstan/sync/service.h>

namespace capstan::cli {

struct SyncOptions {
  std::optional<std::string> mode;
  bool once = false;
  std::optional<uint64_t> interval;
  bool noWatch = false;
  bool dryRun = false;
  std::vector<std::string> exclude;
  std::vector<std::string> excludeFrom;
  bool checksum = false;
  std::optional<std::string> bandwidth;
  std::optional<uint64_t> acceptDeletes;
};

void defineSyncOptions(OptionTable& table, SyncOptions& options);
// Those that say which paths are meant, and in which direction.
void defineRuleOptions(OptionTable& table, SyncOptions& options);

// Without folders and server. Errors: a text that cannot be read, or a file of patterns.
Result<sync::ServiceOptions> serviceOptionsOf(const SyncOptions& options);

}  // namespace capstan::cli
