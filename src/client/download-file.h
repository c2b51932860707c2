// Downloading one remote file to one local place.
#pragma once

#include <optional>

#include <capstan/client/links.h>
#include <capstan/client/part-file.h>
#include <capstan/client/tally.h>

namespace capstan::client {

// Belongs to one event loop; lives until the promise of run() has resolved or is dropped.
class FileDownload final : private FetchTarget {
 public:
  // Below a folder that is open already (a tree's), where the tally knows the size from the listing; or to a path of
  // the user's, whose missing parents are made as soon as it is known that there is something to download.
  FileDownload(Links& links, std::string remotePath, LocalPlace place, const DownloadSettings& settings, Tally& tally);
  FileDownload(Links& links, std::string remotePath, std::string localPath, const DownloadSettings& settings,
               Tally& tally);
  KJ_DISALLOW_COPY(FileDownload);

  kj::Promise<Status> run();

 private:
  // Constant after construction.
  Links& links;
  std::string remotePath;
  std::string localPath;
  bool ofTree;
  DownloadSettings settings;
  Tally& tally;

  std::optional<LocalPlace> place;
  kj::Maybe<kj::Own<PartFile>> part;
  unsigned restarts = 0;
  bool begun = false;

  Status checkTarget() const;
  kj::Promise<Status> attempt();
  kj::Promise<Status> onFetched(Result<Entry> fetched);
  kj::Promise<Status> verifyResumed(Entry entry);
  kj::Promise<Status> restart(Error error);
  Status finish(const Entry& entry);

  Result<uint64_t> begin(const Entry& entry) override;
  kj::Promise<Status> write(std::string_view bytes) override;
  kj::Promise<Status> skip(uint64_t zeros) override;
};

}  // namespace capstan::client
