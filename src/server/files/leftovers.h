// What uploads have left that can be resumed: it takes room on the disk for a day, and counts as long as it does, so
// that nobody fills the disk by beginning uploads and dropping them.
#pragma once

#include <map>
#include <mutex>
#include <string>

#include <capstan/server/access/grant.h>
#include <capstan/server/access/meter.h>
#include <capstan/server/files/served-folder.h>
#include <capstan/server/files/storage.h>
#include <capstan/storage/staging.h>

namespace capstan::server::files {

// Of one grant; more than any client has under way.
inline constexpr size_t MAX_RESUMABLE_UPLOADS = 256;

// All of one served folder. Thread-safe.
class Leftovers {
 public:
  explicit Leftovers(Staging& staging) : staging(staging) {}

  // Before an upload is begun, that will go on with `name` (or with nothing): counts what the grant has left, of
  // earlier servers too. Error: `limit`, the grant has left too many. Blocks.
  Status prepare(const Grant& grant, const Meters& meters, const std::string& name);
  // An upload is over that can be resumed: what it staged goes on to count.
  void keep(const std::string& name, Meters::Charge charge);
  // It was resumed: whoever did counts it.
  void take(const std::string& name);

  // Deletes what is left of grants that have ended, which nobody can resume, and counts it no longer. What is still
  // open stays until it is asked for the next time. Blocks.
  void forgetEnded(const ServedFolder::HasEnded& hasEnded);

 private:
  Staging& staging;
  std::mutex mutex;
  std::map<std::string, Meters::Charge> charges;  // by name; protected by mutex
};

}  // namespace capstan::server::files
