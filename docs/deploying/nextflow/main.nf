// Shards as processes, then the merge.
//
//   nextflow run main.nf --cells /data/atlas.h5ad --model /data/human --output /data/atlas.emb.h5ad --shards 8
//
// Paths are absolute and on a file system that all nodes share: a retry has a work folder of its own, and goes on from the
// parts beside the output.

params.shards = 8

process EMBED {
    cpus 8
    memory 16.GB
    time 12.h
    // 75: stopped as asked; 137 and 143: killed, out of memory or by the node. 2 is bad input: no retry would do better
    errorStrategy { task.exitStatus in [75, 137, 143] ? 'retry' : 'finish' }
    maxRetries 4

    input:
    val shard

    output:
    val shard

    script:
    """
    scgpt-infer embed '${params.cells}' --model '${params.model}' -o '${params.output}' --shard ${shard}/${params.shards} --threads ${task.cpus} --memory 14GB --quiet \
        || exit \$((\$? == 3 ? 0 : \$?)) # 3: all is there but for files of a set that cannot be read
    """
}

process MERGE {
    cpus 2
    memory 8.GB

    input:
    val shards

    script:
    """
    scgpt-infer merge '${params.output}.parts' -o '${params.output}' || exit \$((\$? == 3 ? 0 : \$?)) # 3: as above
    """
}

workflow {
    EMBED(Channel.of(0..<(params.shards as int))) | collect | MERGE
}
