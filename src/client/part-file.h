// A file on its way in: content is gathered beside the target under a name of its own, and moved there when it is
// whole. A large one stays behind when the transfer ends early, and a later transfer of the same version goes on from
// it.
#pragma once

#include <sys/stat.h>

#include <capstan/base/digest.h>
#include <capstan/client/fetch.h>
#include <capstan/client/local-files.h>

namespace capstan::client {

// Belongs to one transfer. Destroying it before finish() removes the part file, or keeps it where it can be resumed.
class PartFile final : public FetchTarget {
 public:
  struct Settings {
    bool resume = true;
    bool keepMetadata = true;
    bool overwrite = true;
  };
  PartFile(LocalPlace place, Settings settings);
  ~PartFile() noexcept(false);
  KJ_DISALLOW_COPY(PartFile);

  // FetchTarget: content is written where it belongs, at the end of what there is.
  Result<uint64_t> begin(const Entry& entry) override;
  kj::Promise<Status> write(std::string_view bytes) override;
  kj::Promise<Status> skip(uint64_t zeros) override;

  // How much of it an earlier run has left, once begun.
  uint64_t resumedFrom() const { return resumed; }
  // XXH3 of what is there now. Reads all of it.
  kj::Promise<Result<std::string>> digest();

  // The content is whole: sets the metadata and moves it to its final name.
  Status finish(const Entry& entry);
  // What is there is of no use: removed, also on disk.
  void discard();

 private:
  LocalPlace place;
  Settings settings;
  std::string name;  // of the part file; empty while there is none
  kj::AutoCloseFd fd;
  uint64_t size = 0;
  uint64_t resumed = 0;
  bool keep = false;

  // What nobody else may read when it is done must not be readable before.
  mode_t modeUntilDone() const { return settings.keepMetadata ? 0600 : 0666; }
  Status openFresh();
  Result<uint64_t> openResumable(const Entry& entry);
  bool lockedHere(struct stat& stat);
  void removeOthers();
  kj::Promise<Result<std::string>> digestFrom(Hasher& hasher, uint64_t offset);
  Error failure(std::string_view doing) const;
};

}  // namespace capstan::client
