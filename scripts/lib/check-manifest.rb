# Used by scripts/check-manifest. The manifest comes on standard input:
#   check-manifest.rb ours JOBS     prints what of it concerns the jobs in the directory JOBS, with the variables that they need
#   check-manifest.rb render JOBS   renders these jobs, and ends with 1 and all that is wrong when a template refuses
require 'yaml'
require_relative 'templates'

what, directory = ARGV
manifest = YAML.safe_load($stdin.read, aliases: true)
abort 'scripts/check-manifest: the manifest has no instance_groups' unless manifest.is_a?(Hash) && manifest['instance_groups'].is_a?(Array)

case what
when 'ours'
  known = Dir.children(directory)
  groups = manifest['instance_groups'].map do |group|
    jobs = Array(group['jobs']).select { |job| job['release'] == 'hsm-kms-plugin' && known.include?(job['name']) }
    group.slice('name', 'instances').merge('jobs' => jobs)
  end
  groups.reject! { |group| group['jobs'].empty? }
  abort 'scripts/check-manifest: finds no job of the release hsm-kms-plugin in the manifest' if groups.empty?

  # Only the variables in use are made up: a whole platform's certificates would take minutes.
  variables = Array(manifest['variables']).to_h { |variable| [variable['name'], variable] }
  wanted = groups.to_yaml.scan(/\(\(!?([^().]+)(?:\.[^()]*)?\)\)/).flatten
  needed = []
  until wanted.empty?
    variable = variables[wanted.shift]
    next if variable.nil? || needed.include?(variable)

    needed << variable
    wanted.concat(variable.to_yaml.scan(/\(\(!?([^().]+)(?:\.[^()]*)?\)\)/).flatten)
    wanted << variable.dig('options', 'ca') if variable.dig('options', 'ca')
  end
  # An authority before what it signs.
  puts({ 'instance_groups' => groups, 'variables' => needed.reverse, 'create_env' => manifest.key?('cloud_provider') }.to_yaml)
when 'render'
  mode = manifest['create_env'] ? 'create-env' : 'director'
  faults = []
  manifest['instance_groups'].each do |group|
    group['jobs'].each do |job|
      # The bootstrap instance, and any other.
      [true, *(false if group['instances'].to_i > 1)].each do |bootstrap|
        request = { 'job' => File.join(directory, job['name']), 'properties' => job['properties'] || {}, 'mode' => mode,
                    'spec' => { 'bootstrap' => bootstrap } }
        faults.concat(Templates.render(request)['errors'].map { |error| "instance group #{group['name']}: #{error['message']}" })
      end
    end
  end
  abort faults.uniq.join("\n") unless faults.empty?
  puts "The properties of #{manifest['instance_groups'].sum { |group| group['jobs'].size }} job(s) of hsm-kms-plugin can work."
end
