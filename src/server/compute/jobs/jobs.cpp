#include <capstan/server/compute/jobs/jobs.h>
