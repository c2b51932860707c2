// Downloading a remote folder with all that is in it: listing and many files at once, each beside the others. What the
// server lists is checked before it touches the disk, and nothing is written through a symlink below the target.
#pragma once

#include <string>
#include <vector>

#include <capstan/client/calls.h>
#include <capstan/client/local-files.h>
#include <capstan/client/tally.h>
#include <capstan/client/task-window.h>

namespace capstan::client {

// Belongs to one event loop; lives until the promise of run() has resolved or is dropped.
class TreeDownload final {
 public:
  // `root` is the remote folder as it is now; it becomes exactly `target`.
  TreeDownload(Links& links, Entry root, LocalPlace target, const DownloadSettings& settings, Tally& tally);
  KJ_DISALLOW_COPY(TreeDownload);

  // An Error that hits every file alike (no server, no space) ends it all; what concerns one file or folder is a
  // failure in the tally's summary.
  kj::Promise<Status> run();

 private:
  // Constant after construction.
  Links& links;
  Entry root;
  LocalPlace target;
  DownloadSettings settings;
  Tally& tally;

  FolderHandle folder;               // the target, once it is made
  std::vector<Entry> folders;        // made; their metadata is set at the end. Paths are relative to the target
  std::vector<std::string> refused;  // folders that could not be made: what is in them is left out
  std::string lastUnread;            // the last folder that the server could not read
  std::string parentPath;            // the place of the last entry is kept, for the next one is mostly beside it
  FolderHandle parentHandle;
  TaskWindow window;

  kj::Promise<Status> list();
  kj::Promise<Status> onPage(Result<ListPage> page);
  kj::Promise<void> takeFrom(std::shared_ptr<ListPage> page, size_t index);
  Status check(const Entry& entry, std::string& relative) const;
  Result<LocalPlace> placeFor(const std::string& relative);
  bool isLeftOut(const std::string& relative) const;
  kj::Promise<void> take(Entry entry);
  Status takeFolder(Entry entry, const std::string& relative);
  Status takeSymlink(const Entry& entry, const std::string& relative);
  kj::Promise<void> takeFile(Entry entry, std::string relative);
  void note(const std::string& path, Error error);
  void noteUnread(Error error);
  Status setFolders();
};

}  // namespace capstan::client
