// The client for programs that have no event loop: each method waits for its outcome. Otherwise as client.h has it.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <capstan/client/client.h>

namespace capstan::client {

// Owns an event loop, which belongs to the thread that made the object: make it, use it and destroy it on one thread,
// which must not have a KJ event loop already. Several objects on several threads do not touch each other. Nothing is
// connected before the first call. Between calls the loop stands still: a connection that breaks meanwhile is noticed,
// and replaced, by the next call.
//
// Failures that a user can cause are Error values; what is thrown (kj::Exception) is a bug.
class BlockingClient {
 public:
  explicit BlockingClient(Options options);
  ~BlockingClient() noexcept(false);
  KJ_DISALLOW_COPY(BlockingClient);

  Result<ServerInfo> hello();

  Result<Entry> stat(std::string path, bool follow = false);
  // The folder's entries in order, or with `recursive` all below it.
  // All at once. With `recursive`, a folder below it that cannot be read is the error of the whole.
  Result<std::vector<Entry>> list(std::string path, bool recursive = false);
  Status list(std::string path, bool recursive, std::function<void(Entry&&)> onEntry,
              std::function<void(Error&&)> onUnread = {});
  Result<std::string> digest(std::string path, DigestAlgorithm algorithm = DigestAlgorithm::SHA256);  // raw bytes

  Result<Entry> makeDirectory(std::string path, bool parents = false, Attributes attributes = {});
  Result<Entry> symlink(std::string path, std::string target, Expectation expectation = {}, Attributes attributes = {},
                        bool makeParents = true);
  Result<Entry> setMetadata(std::string path, Attributes attributes, Expectation expectation = {});
  Result<Entry> rename(std::string from, std::string to, Expectation toExpectation = {}, bool makeParents = true);
  Result<Entry> copy(std::string from, std::string to, Expectation toExpectation = {}, bool makeParents = true);
  Result<Entry> remove(std::string path, bool recursive = false, Expectation expectation = {});

  // A whole file, or a part of it, into memory. More than `limit` bytes are tooLarge.
  Result<std::string> read(std::string path, uint64_t offset = 0, uint64_t count = UINT64_MAX,
                           uint64_t limit = 256 << 20);
  // In pieces, as they arrive; an Error that `onBytes` answers ends it. Holes arrive as zeros.
  Result<Entry> read(std::string path, std::function<Status(std::string_view)> onBytes, uint64_t offset = 0,
                     uint64_t count = UINT64_MAX);
  // This content as one file; atomic and durable when it returns.
  Result<Entry> write(std::string_view content, std::string path, UploadSettings settings = {});
  // Content from a function that fills up to `size` bytes and answers how many, 0 at the end.
  Result<Entry> write(std::function<Result<size_t>(char* buffer, size_t size)> source, std::string path,
                      UploadSettings settings = {});

  // See transfer-types.h.
  Result<TransferSummary> upload(std::string localPath, std::string remotePath, UploadSettings settings = {},
                                 Progress* progress = nullptr);
  Result<TransferSummary> download(std::string remotePath, std::string localPath, DownloadSettings settings = {},
                                   Progress* progress = nullptr);

  // Computing and jobs: as client.h and compute.h have them.
  Result<Number> add(std::vector<Number> numbers);
  Result<Number> reduce(ComputeInput input, Reduction reduction);
  Result<std::vector<int64_t>> sort(std::vector<int64_t> numbers, SortSettings settings = {});
  Result<std::vector<double>> sort(std::vector<double> numbers, SortSettings settings = {});
  Result<std::vector<std::string>> sort(std::vector<std::string> texts, SortSettings settings = {});
  Result<ComputedValue> compute(Computation computation);
  // In pieces, as they arrive; an Error that `onBytes` answers ends it.
  Result<ValueInfo> compute(Computation computation, std::function<Status(std::string_view)> onBytes,
                            Encoding encoding = Encoding::UNSET);
  Result<Entry> computeInto(Computation computation, std::string path, UploadSettings settings = {},
                            Encoding encoding = Encoding::UNSET);

  Result<std::string> submit(Computation computation, JobSettings settings = {});
  Result<JobStatus> jobStatus(std::string id);
  Result<std::vector<JobStatus>> listJobs();
  Result<JobStatus> waitForJob(std::string id, uint64_t timeout = 0);
  Result<JobStatus> watchJob(std::string id, std::function<void(const JobStatus&)> onReport);
  Result<JobStatus> cancelJob(std::string id);
  Status forgetJob(std::string id);
  Result<ComputedValue> jobResult(std::string id);
  Result<ValueInfo> jobResult(std::string id, std::function<Status(std::string_view)> onBytes,
                              Encoding encoding = Encoding::UNSET);
  Result<Entry> jobResultInto(std::string id, std::string path, UploadSettings settings = {},
                              Encoding encoding = Encoding::UNSET);

 private:
  struct Impl;
  kj::Own<Impl> impl;
};

}  // namespace capstan::client
